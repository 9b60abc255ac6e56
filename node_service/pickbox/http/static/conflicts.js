// The conflict copies in the folder: how many, and each with what can be done about it.

import { aboutFile, count } from "./format.js";
import { arrange, button, make, part, write } from "./page.js";
import {
  decodedPath,
  downloadLink,
  encodedPath,
  isCopy,
  nameOf,
  originalOf,
  pathBytes,
  visible,
} from "./paths.js";
import { ask } from "./requests.js";
import { Settling } from "./settling.js";

const AGAIN_MS = 5000; // the node looks through its whole catalog: not oftener than that

let again = 0;
let reading = 0; // number of the last reading
let readAt = -AGAIN_MS;
let shown = null; // what an entry says -> its item; null if nothing was read yet
let settled = () => {};

// `onSettled()` is told when this page has changed the folder.
export function setUpConflicts(onSettled) {
  settled = onSettled;
  part("conflicts").addEventListener("toggle", (event) => {
    if (event.target.open) readConflicts();
  });
}

// The folder changed somewhere; `copies` says whether a copy came or went.
export function conflictsChanged(copies) {
  if (!copies && !part("conflicts").open) return;
  again ||= setTimeout(readConflicts, readAt + AGAIN_MS - performance.now());
}

// At the node's first answer, when the list is opened, and when copies come or go: the list says how
// many there are when it is closed, too.
export async function readConflicts() {
  clearTimeout(again);
  again = 0;
  readAt = performance.now();
  reading += 1;
  const mine = reading;
  try {
    const found = await ask("/api/conflicts");
    if (mine === reading) show(found);
  } catch {
    if (mine !== reading) return;
    write(part("conflicts-count"), "");
    write(part("conflicts-left"), "The list could not be read; close and open it again.");
  }
}

// An item that says the same as before stays as it is: somebody may be settling it.
function show({ conflicts, more }) {
  const first = shown === null;
  const before = shown ?? new Map();
  shown = new Map();
  const items = conflicts.map((entry) => {
    const key = JSON.stringify(entry);
    shown.set(key, before.get(key) ?? item(entry));
    return shown.get(key);
  });
  const list = part("conflict-list");
  const focused = list.contains(document.activeElement);
  arrange(list, items);
  if (focused && !list.contains(document.activeElement)) {
    part("conflicts").querySelector("summary").focus();
  }
  const left = more ? "There are more than these." : "";
  write(part("conflicts-left"), items.length ? left : "There are none.");
  const number = `${more ? "more than " : ""}${count(items.length)}`;
  write(part("conflicts-count"), items.length ? `: ${number}` : ": none");
  showNews(!first && [...shown.keys()].some((key) => !before.has(key)), items.length);
}

// Who has the list closed is told that there are others in it than when it was last seen.
function showNews(fresh, number) {
  const { open, classList } = part("conflicts");
  if (open || number === 0) classList.remove("news");
  else if (fresh) classList.add("news");
}

function item(entry) {
  const copy = encodedPath(pathBytes(entry));
  const name = nameOf(entry.path);
  const actions = make("span", "actions", downloadLink(copy, "Download the copy", name));
  const element = make(
    "li",
    "",
    make("span", "path", visible(entry.path)),
    make("span", "meta", aboutFile(entry)),
    actions,
  );
  // A directory may have such a name, or a file that never was a copy.
  if (entry.kind === "file" && isCopy(entry.path)) offerSettling(element, actions, entry, copy);
  return element;
}

function offerSettling(element, actions, entry, copy) {
  const original = originalOf(copy);
  const name = nameOf(decodedPath(original));
  const start = button("", "Settle", () => {
    start.hidden = true;
    element.append(new Settling({ copy, original, name }, end).element);
  });
  const end = (told) => {
    element.querySelector(".settling")?.remove();
    start.hidden = false;
    start.focus();
    if (!told) return;
    write(part("conflicts-said"), told);
    settled();
    readConflicts();
  };
  start.setAttribute("aria-label", `Settle ${visible(entry.path)}`);
  actions.append(downloadLink(original, "Download what is current", name), start);
}
