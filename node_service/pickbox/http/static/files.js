// The files browser: one directory at a time, and download.

import { bytes, moment, plural } from "./format.js";
import { arrange, button, make, part, write } from "./page.js";
import { downloadLink, encodedPath, isCopy, nameOf, pathBytes, visible } from "./paths.js";
import { ask } from "./requests.js";

const PAGE = 100;
const LARGEST_PAGE = 1000; // that the node gives
const AGAIN_MS = 1000; // a busy folder is not read more often than that

let directory = { encoded: "", names: [] }; // names: [shown, encoded] of each component
let wanted = PAGE; // so many entries are to be shown
let reading = 0; // number of the last reading: an older one that answers late is dropped
let again = 0;
let shown = new Map(); // what an entry says -> its row

export function setUpFiles() {
  part("more").addEventListener("click", showMore);
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
  read(wanted);
}

function open(where, focus = false) {
  directory = where;
  wanted = PAGE;
  showCrumbs();
  read(wanted).then(() => focus && part("files-title").focus());
}

// Shows the directory's first entries, `most` at most.
async function read(most) {
  reading += 1;
  const mine = reading;
  try {
    const found = [];
    let page = { cursor: "" };
    while (found.length < most && page.cursor !== null) {
      page = await ask(addressOfPage(page.cursor, Math.min(LARGEST_PAGE, most - found.length)));
      if (mine !== reading) return;
      found.push(...page.entries);
    }
    show(found, page.cursor);
  } catch (error) {
    if (mine === reading) say(`The directory could not be read: ${error.message}`);
  }
}

async function showMore() {
  const before = part("entries").childElementCount;
  wanted += PAGE;
  await read(wanted);
  // The button may have gone, and what is new is what was asked for.
  part("entries").children[before]?.querySelector("a, button")?.focus();
}

function addressOfPage(after, limit) {
  const prefix = directory.encoded && `${directory.encoded}/`;
  const from = after ? `&cursor=${after}` : "";
  return `/api/v1/files?recursive=false&limit=${limit}&prefix=${prefix}${from}`;
}

// A row that says the same as before stays where it is, with the focus or the selection in it.
function show(entries, next) {
  const before = shown;
  shown = new Map();
  for (const entry of entries) {
    const key = JSON.stringify([directory.encoded, entry]);
    shown.set(key, before.get(key) ?? row(entry));
  }
  arrange(part("entries"), [...shown.values()]);
  part("more").hidden = next === null;
  const more = next === null ? "" : ", and more";
  const there = `${plural(entries.length, "entry", "entries")}${more}`;
  say(entries.length ? there : "Nothing is here yet.");
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
