// What happened: the node's events, newest first.

import { clock, moment } from "./format.js";
import { make, part, tone, write } from "./page.js";
import { visible } from "./paths.js";

const FILES_CHANGED = "files_changed";
const SHOWN = 60; // those about files not counted
const SHOWN_OF_FILES = 20; // so that a busy folder does not push the others out
const TONES = {
  leader_lost: "bad",
  quorum_lost: "bad",
  node_down: "bad",
  node_not_ready: "warn",
  drain_started: "warn",
  conflict: "warn",
  leader_changed: "info",
  member_added: "info",
  member_removed: "info",
  quorum_reached: "ok",
  node_up: "ok",
  node_ready: "ok",
  drain_ended: "ok",
};

const KNOWN = 2000;
const SAME_SECONDS = 10; // apart, two nodes notice the same thing

// What is told while the page opens happened before, and what is told in one go is read out in one.
const OPENING_MS = 3000;
const GATHERED_MS = 300;
const READ_OUT = 3;
const opened = performance.now();
let unread = []; // sentences

const seen = new Map(); // id -> event

setInterval(keepTimes, 60000);

// Shows those of `events` (oldest first) that are new; returns them.
export function showEvents(events) {
  const fresh = events.filter(isNew);
  if (fresh.length === 0) return fresh;
  const list = part("events");
  list.querySelector(".empty")?.remove();
  for (const event of fresh) list.insertBefore(item(event), later(list, event));
  readOut(fresh.filter(({ kind }) => kind !== FILES_CHANGED));
  const isOfFiles = ({ dataset }) => dataset.kind === FILES_CHANGED;
  const items = [...list.children];
  for (const old of items.filter(isOfFiles).slice(SHOWN_OF_FILES)) old.remove();
  for (const old of items.filter((each) => !isOfFiles(each)).slice(SHOWN)) old.remove();
  return fresh;
}

// Of a busy folder nobody wants to hear every five seconds: the list itself is silent.
function readOut(events) {
  if (events.length === 0 || performance.now() - opened < OPENING_MS) return;
  if (unread.length === 0) setTimeout(sayUnread, GATHERED_MS);
  unread.push(...events.map(({ text, paths }) => [text, ...paths.map(visible)].join(" ")));
}

// As a new element, or what is said a second time would not be read out.
function sayUnread() {
  part("events-said").replaceChildren(make("span", "", unread.slice(-READ_OUT).join(" ")));
  unread = [];
}

function isNew(event) {
  const known = seen.has(event.id) || toldByAnother(event);
  seen.delete(event.id); // what is told again and again is not the oldest that is forgotten
  seen.set(event.id, event);
  if (seen.size > KNOWN) seen.delete(seen.keys().next().value);
  return !known;
}

// Behind a balancer several nodes tell of the same thing, each under an id of its own.
function toldByAnother(event) {
  const run = runOf(event);
  return [...seen.values()].some(
    (other) =>
      runOf(other) !== run &&
      other.kind === event.kind &&
      Math.abs(other.timestamp - event.timestamp) < SAME_SECONDS &&
      isSame(other, event),
  );
}

// Nodes count changed files at different moments, hence in different numbers.
function isSame(one, other) {
  if (one.kind !== FILES_CHANGED) return one.text === other.text;
  return one.paths.some((path) => other.paths.includes(path));
}

function runOf(event) {
  return event.id.split("-")[0];
}

// The first item that is older than `event`.
function later(list, event) {
  return [...list.children].find((other) => Number(other.dataset.at) <= event.timestamp) ?? null;
}

function timeInWords(at) {
  return at.toDateString() === new Date().toDateString() ? clock(at) : moment(at);
}

// In a page that stays open, what is of today is of yesterday once.
function keepTimes() {
  for (const time of part("events").querySelectorAll("time")) {
    write(time, timeInWords(new Date(time.dateTime)));
  }
}

function item(event) {
  const at = new Date(1000 * event.timestamp);
  const time = make("time", "", timeInWords(at));
  time.dateTime = at.toISOString();
  const said = make("p", "", event.text);
  const element = make("li", "", time, said);
  element.dataset.at = event.timestamp;
  element.dataset.kind = event.kind;
  tone(element, TONES[event.kind] ?? "idle");
  if (event.paths.length) {
    const names = event.paths.map(visible);
    const paths = make("span", "paths", names.join(", "));
    paths.title = names.join("\n"); // long ones are cut
    said.append(paths);
  }
  return element;
}
