// What a node that is ready warns of.

// Content is on its way to some node again and again, and nobody has to do anything.
const PASSING = new Set(["content"]);

// A release that does not tell what it warns of is not judged.
const told = (node) => (node.reachable ? (node.warnings ?? []) : []);

export function warns(node) {
  return node.ready && told(node).some((name) => !PASSING.has(name));
}

// Less is free than the node keeps in reserve, so it takes no writes.
export function isFull(node) {
  return told(node).includes("disk");
}
