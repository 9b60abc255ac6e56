// What happened: the node's events, newest first.

import { clock } from "./format.js";
import { make, part, tone } from "./page.js";

const SHOWN = 60;
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

const seen = new Set(); // ids

// Shows those of `events` (oldest first) that are new; returns them.
export function showEvents(events) {
  const fresh = events.filter((event) => !seen.has(event.id));
  if (fresh.length === 0) return fresh;
  const list = part("events");
  if (seen.size === 0) list.replaceChildren();
  for (const event of fresh) {
    seen.add(event.id);
    list.insertBefore(item(event), later(list, event));
  }
  while (list.childElementCount > SHOWN) list.lastElementChild.remove();
  return fresh;
}

// The first item that is older than `event`.
function later(list, event) {
  return [...list.children].find((other) => Number(other.dataset.at) <= event.timestamp) ?? null;
}

function item(event) {
  const at = new Date(1000 * event.timestamp);
  const time = make("time", "", clock(at));
  time.dateTime = at.toISOString();
  const said = make("p", "", event.text);
  const element = make("li", "", time, said);
  element.dataset.at = event.timestamp;
  element.dataset.kind = event.kind;
  tone(element, TONES[event.kind] ?? "idle");
  if (event.paths.length) {
    const paths = make("span", "paths", event.paths.join(", "));
    paths.title = event.paths.join("\n"); // long ones are cut
    said.append(paths);
  }
  return element;
}
