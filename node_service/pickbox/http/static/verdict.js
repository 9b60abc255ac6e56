// The cluster's state in a word or two, and in a sentence what it means for who uses it.

import { plural } from "./format.js";
import { part, tone, write } from "./page.js";
import { isFull, warns } from "./warnings.js";

export function setVerdict(text, name) {
  write(part("verdict"), text);
  tone(part("verdict"), name);
  nameTab();
}

// While nobody looks nothing is asked: what was said last may be wrong when somebody reads the tab.
export function nameTab() {
  const seen = document.visibilityState === "visible";
  document.title = seen ? `${part("verdict").textContent} · Pickbox` : "Pickbox";
}

export function showVerdict(cluster) {
  setVerdict(...verdict(cluster));
}

function verdict({ standing, has_quorum, leader, quorum, nodes }) {
  const unwell = nodes.filter((node) => !node.ready).length;
  const warning = nodes.filter(warns).length;
  if (standing) return ["Takes no part", "bad"];
  if (!has_quorum) return ["No quorum", "bad"];
  if (!leader) return ["No leader", "bad"];
  if (disksStopWrites(nodes, quorum)) return ["Disks full", "bad"];
  if (unwell) return [`${plural(unwell, "node needs", "nodes need")} attention`, "warn"];
  if (warning) return [plural(warning, "node warns", "nodes warn"), "warn"];
  return ["Healthy", "ok"];
}

// A large file is taken once a majority has room for it.
function disksStopWrites(nodes, quorum) {
  const up = nodes.filter((node) => node.reachable);
  return up.some(isFull) && up.filter((node) => !isFull(node)).length < quorum;
}

// What the cluster's state means for who uses it, if that is not all as it should be.
export function showSituation(cluster) {
  const [text, name] = situation(cluster);
  const element = part("situation");
  write(element, text);
  tone(element, name);
  element.hidden = !text;
}

function situation({ standing, has_quorum, leader, quorum, nodes }) {
  // It never reaches a majority again, and the others may do well without it.
  if (standing) {
    const told = "Use another node: what this one shows of the others may be wrong.";
    return [`This node takes no part in the cluster: ${standing}. ${told}`, "bad"];
  }
  if (!has_quorum) {
    const needed = `until ${quorum} of the nodes, this one among them, reach each other`;
    const allowed = "files can be read here and not written";
    return [`This node reaches no majority: ${allowed}, ${needed}.`, "bad"];
  }
  if (!leader) return ["No leader is known; while one is elected, nothing can be written.", "bad"];
  const stopped = disksStopWrites(nodes, quorum);
  const told = [aboutDisks(nodes, stopped), aboutAbsence(nodes, quorum, stopped)].filter(Boolean);
  return [told.join(" "), stopped ? "bad" : "warn"];
}

function aboutDisks(nodes, stopped) {
  const up = nodes.filter((node) => node.reachable);
  const full = up.filter(isFull).map((node) => node.node_id);
  if (full.length === 0) return "";
  const remedy = "What is there can be read; writing goes on once there is room.";
  if (full.length === up.length) return `All disks are full: no node takes writes. ${remedy}`;
  const large = stopped ? " Large files are taken nowhere, for they need a majority with room." : "";
  if (full.length === 1) return `The disk of ${full[0]} is full: it takes no writes.${large} ${remedy}`;
  return `The disks of ${full.join(", ")} are full: they take no writes.${large} ${remedy}`;
}

function aboutAbsence(nodes, quorum, stopped) {
  const up = nodes.filter((node) => node.reachable).length;
  if (up === nodes.length) return "";
  const meaning = stopped ? "A" : "The cluster works: a";
  return `${up} of ${nodes.length} nodes are up. ${meaning} majority is ${quorum}.`;
}
