// The files browser: one directory at a time, and download.

import { bytes, moment, plural } from "./format.js";
import { arrange, button, make, part, write } from "./page.js";
import { downloadLink, encodedPath, isCopy, nameOf, pathBytes, visible } from "./paths.js";
import { ask } from "./requests.js";

const PAGE = 100;
const LARGEST_PAGE = 1000; // that the node gives
const AGAIN_MS = 1000; // a busy folder is not read more often than that

const NOTHING = { entries: [], next: "" }; // next: the cursor of what follows, null at the end

const encoder = new TextEncoder();

let directory = { encoded: "", names: [] }; // names: [shown, encoded] of each component
let wanted = PAGE; // so many entries are to be shown
let reading = 0; // number of the last reading: an older one that answers late is dropped
let anew = false; // whether it is one from the first entry on
let again = 0;
let listed = NOTHING;
let shown = new Map(); // what an entry says -> its row

export function setUpFiles() {
  part("more").addEventListener("click", showMore);
  part("first-letters").addEventListener("input", narrow);
  open(directory);
}

export function currentDirectory() {
  return directory;
}

// The folder changed somewhere.
export function readSoon() {
  clearTimeout(again);
  again = setTimeout(readAgain, AGAIN_MS);
}

export function readAgain() {
  return read(NOTHING);
}

function open(where, focus = false) {
  directory = where;
  part("first-letters").value = "";
  showCrumbs();
  readOther().then(() => focus && part("files-title").focus());
}

// Of many entries those whose names begin as told. A name has no slash in it.
function narrow() {
  const field = part("first-letters");
  if (field.value.includes("/")) field.value = field.value.replaceAll("/", "");
  readOther();
}

function readOther() {
  wanted = PAGE;
  listed = NOTHING;
  return readAgain();
}

// Shows the directory's entries, as many as are wanted, of which some may be known.
async function read({ entries, next }) {
  reading += 1;
  const mine = reading;
  anew = entries.length === 0;
  try {
    const found = [...entries];
    let cursor = next;
    while (found.length < wanted && cursor !== null) {
      const page = await ask(addressOfPage(cursor, Math.min(LARGEST_PAGE, wanted - found.length)));
      if (mine !== reading) return;
      found.push(...page.entries);
      cursor = page.cursor;
    }
    listed = { entries: found, next: cursor };
    show();
  } catch (error) {
    if (mine === reading) say(`The directory could not be read: ${error.message}`);
  } finally {
    if (mine === reading) anew = false;
  }
}

async function showMore() {
  const before = part("entries").childElementCount;
  wanted += PAGE;
  // What is being read anew, because the folder changed, is not to be forgotten over it.
  await read(anew ? NOTHING : listed);
  // The button may have gone, and what is new is what was asked for.
  part("entries").children[before]?.querySelector("a, button")?.focus();
}

function addressOfPage(after, limit) {
  const inside = directory.encoded && `${directory.encoded}/`;
  const prefix = inside + encodedPath(encoder.encode(part("first-letters").value));
  const from = after ? `&cursor=${after}` : "";
  return `/api/v1/files?recursive=false&limit=${limit}&prefix=${prefix}${from}`;
}

// A row that says the same as before stays where it is, with the focus or the selection in it.
function show() {
  const { entries, next } = listed;
  const before = shown;
  shown = new Map();
  for (const entry of entries) {
    const key = JSON.stringify([directory.encoded, entry]);
    shown.set(key, before.get(key) ?? row(entry));
  }
  arrange(part("entries"), [...shown.values()]);
  part("more").hidden = next === null;
  say(howMany(entries.length, next !== null));
}

function howMany(number, more) {
  const letters = visible(part("first-letters").value);
  const narrowed = letters && ` with a name that begins with “${letters}”`;
  if (number === 0) return letters ? `Nothing is here${narrowed}.` : "Nothing is here yet.";
  return `${plural(number, "entry", "entries")}${narrowed}${more ? ", and more" : ""}`;
}

function say(text) {
  write(part("files-status"), text);
}

function showCrumbs() {
  const crumbs = [["Folder", { encoded: "", names: [] }]];
  directory.names.forEach(([shown, encoded], i) => {
    crumbs.push([shown, { encoded, names: directory.names.slice(0, i + 1) }]);
  });
  part("crumbs").replaceChildren(
    ...crumbs.map(([text, where], i) => {
      const here = i === crumbs.length - 1;
      const shownText = visible(text);
      const link = () => button("link", shownText, () => open(where, true));
      const item = make("li", "", here ? shownText : link());
      if (here) item.setAttribute("aria-current", "location");
      return item;
    }),
  );
}

function row(entry) {
  const encoded = encodedPath(pathBytes(entry));
  const name = nameOf(entry.path);
  const known = entry.kind === "file";
  const size = make("td", "size", known ? bytes(entry.size) : "");
  const time = entry.mtime_ns ? moment(new Date(entry.mtime_ns / 1e6)) : "";
  const from = make("td", "from", entry.origin);
  const cells = [named(entry, encoded, name), size, make("td", "time", time), from];
  const element = make("tr", "", ...cells);
  // On a narrow screen these are no table boxes, and not all browsers know them for a table then.
  element.role = "row";
  for (const cell of cells) cell.role = cell.tagName === "TH" ? "rowheader" : "cell";
  return element;
}

function named(entry, encoded, name) {
  const cell = make("th", entry.kind);
  cell.scope = "row";
  if (entry.kind === "directory") {
    const where = { encoded, names: [...directory.names, [name, encoded]] };
    cell.append(button("link", `${visible(name)}/`, () => open(where, true)));
  } else if (entry.kind === "file") {
    cell.append(downloadLink(encoded, name, name));
  } else {
    cell.append(`${visible(name)} → ${visible(entry.target)}`);
  }
  if (isCopy(entry.path)) cell.append(" ", make("span", "badge conflict", "conflict copy"));
  return cell;
}
