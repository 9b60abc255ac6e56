// The files browser: one directory at a time, download, and the conflict copies.

import { bytes, moment, plural } from "./format.js";
import { button, make, part, write } from "./page.js";
import { downloadLink, encodedPath, isCopy, nameOf, originalOf, pathBytes } from "./paths.js";
import { ask } from "./requests.js";

const PAGE = 100;
const AGAIN_MS = 1000; // a busy folder is not read more often than that

let directory = { encoded: "", names: [] }; // names: [shown, encoded] of each component
let cursor = null;
let pages = 1; // so many were asked for
let reading = 0; // number of the last reading: an older one that answers late is dropped
let again = 0;

export function setUpFiles() {
  part("more").addEventListener("click", () => {
    pages += 1;
    readMore();
  });
  part("conflicts").addEventListener("toggle", (event) => {
    if (event.target.open) showConflicts();
  });
  open(directory);
}

export function currentDirectory() {
  return directory;
}

// The folder changed somewhere.
export function filesChanged(events) {
  clearTimeout(again);
  again = setTimeout(readAgain, AGAIN_MS);
  if (!events.some((event) => event.kind === "conflict")) return;
  part("conflicts").classList.add("news");
  if (part("conflicts").open) showConflicts();
}

export function readAgain() {
  read(pages);
}

function open(where, focus = false) {
  directory = where;
  pages = 1;
  showCrumbs();
  read(1).then(() => focus && part("files-title").focus());
}

async function read(count) {
  reading += 1;
  const mine = reading;
  try {
    const found = [];
    let page = { cursor: "" };
    for (let i = 0; i < count && page.cursor !== null; i += 1) {
      page = await ask(addressOfPage(page.cursor));
      found.push(...page.entries);
    }
    if (mine === reading) show(found, page.cursor);
  } catch (error) {
    if (mine === reading) say(`The directory could not be read: ${error.message}`);
  }
}

async function readMore() {
  const mine = reading;
  try {
    const page = await ask(addressOfPage(cursor));
    if (mine !== reading) return;
    part("entries").append(...page.entries.map(row));
    keepCursor(page.cursor);
  } catch (error) {
    say(`No more could be read: ${error.message}`);
  }
}

function addressOfPage(after) {
  const prefix = directory.encoded && `${directory.encoded}/`;
  const from = after ? `&cursor=${after}` : "";
  return `/api/v1/files?recursive=false&limit=${PAGE}&prefix=${prefix}${from}`;
}

function show(entries, next) {
  const rows = part("entries");
  const focused = rows.contains(document.activeElement) ? document.activeElement.textContent : null;
  rows.replaceChildren(...entries.map(row));
  if (focused !== null) {
    [...rows.querySelectorAll("a, button")].find((e) => e.textContent === focused)?.focus();
  }
  keepCursor(next);
  const more = next === null ? "" : ", and more";
  const there = `${plural(entries.length, "entry", "entries")}${more}`;
  say(entries.length ? there : "Nothing is here yet.");
}

function keepCursor(next) {
  cursor = next;
  part("more").hidden = next === null;
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
      const item = make("li", "", here ? text : button("link", text, () => open(where, true)));
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
  return make("tr", "", named(entry, encoded, name), size, make("td", "time", time), from);
}

function named(entry, encoded, name) {
  const cell = make("th", entry.kind);
  cell.scope = "row";
  if (entry.kind === "directory") {
    const where = { encoded, names: [...directory.names, [name, encoded]] };
    cell.append(button("link", `${name}/`, () => open(where, true)));
  } else if (entry.kind === "file") {
    cell.append(downloadLink(encoded, name, name));
  } else {
    cell.append(`${name} → ${entry.target}`);
  }
  if (isCopy(entry.path)) cell.append(" ", make("span", "badge conflict", "conflict copy"));
  return cell;
}

async function showConflicts() {
  const list = part("conflict-list");
  part("conflicts").classList.remove("news");
  try {
    const { conflicts, more } = await ask("/api/conflicts");
    const items = conflicts.map(conflict);
    if (items.length === 0) items.push(make("li", "", "There are none."));
    if (more) items.push(make("li", "", "There are more than these."));
    list.replaceChildren(...items);
  } catch {
    list.replaceChildren(make("li", "", "The list could not be read; close and open it again."));
  }
}

function conflict(entry) {
  const encoded = encodedPath(pathBytes(entry));
  const name = nameOf(entry.path);
  const original = originalOf(encoded);
  const originalName = nameOf(decodeURIComponentSafely(original));
  const made = moment(new Date(entry.mtime_ns / 1e6));
  return make(
    "li",
    "",
    make("span", "path", entry.path),
    make("span", "meta", `${bytes(entry.size)}, from ${entry.origin}, of ${made}`),
    make(
      "span",
      "actions",
      downloadLink(encoded, "Download the copy", name),
      downloadLink(original, "Download what is current", originalName),
    ),
  );
}

function decodeURIComponentSafely(encoded) {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return encoded; // bytes that are no text
  }
}
