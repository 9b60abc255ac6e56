// A card for each node.

import { bytes, count, duration, percent } from "./format.js";
import { make, part, refill, tone, write } from "./page.js";
import { warns } from "./warnings.js";

const LAG_SEEN = 50; // entries behind that are worth a colour: a busy follower is a few behind
const DISK_SEEN = 90; // percent
const ROLES = { leader: "Leader", follower: "Follower", candidate: "Candidate" };

const cards = new Map(); // node id -> its card's parts

// `readings`: of each node, what the newest sample says.
export function showNodes(cluster, readings) {
  const list = part("nodes");
  const known = new Set(cluster.nodes.map((node) => node.node_id));
  for (const [id, card] of cards) {
    if (!known.has(id)) {
      card.element.remove();
      cards.delete(id);
    }
  }
  if (cards.size === 0) list.replaceChildren();
  for (const node of cluster.nodes) {
    if (!cards.has(node.node_id)) {
      cards.set(node.node_id, newCard());
      list.append(cards.get(node.node_id).element);
    }
    fillCard(cards.get(node.node_id), node, cluster, readings[node.node_id]);
  }
}

function newCard() {
  const element = part("node-template").content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const found of element.querySelectorAll("[data-of]")) parts[found.dataset.of] = found;
  return { element, parts };
}

function fillCard({ element, parts }, node, cluster, reading) {
  const figures = node.figures;
  const told = (text) => (node.reachable ? text : "–");
  element.dataset.role = node.reachable ? node.role : "unknown";
  element.classList.toggle("absent", !node.reachable);
  write(parts.node_id, node.node_id);
  parts.self.hidden = node.node_id !== cluster.node_id;
  write(parts.role, node.reachable ? (ROLES[node.role] ?? "Unknown role") : "");
  showState(parts.state, node);
  showReasons(parts.reasons, node);
  write(parts.term, told(count(node.term)));
  write(parts.applied_index, told(count(node.applied_index)));
  write(parts.commit_index, told(count(node.commit_index)));
  write(parts.lag, told(count(node.lag)));
  tone(parts.lag, node.lag > LAG_SEEN ? "warn" : "");
  write(parts.files, told(count(figures.files)));
  write(parts.bytes, told(bytes(figures.bytes)));
  write(parts.pending, told(count(figures.pending)));
  tone(parts.pending, figures.pending > 0 ? "warn" : "");
  write(parts.conflicts, told(count(figures.conflicts)));
  write(parts.uptime, told(duration(figures.uptime_seconds)));
  write(parts.version, `version ${node.version}`);
  showResources(parts, node, reading ?? {});
  showLinks(parts.links, node);
}

function showResources(parts, node, reading) {
  const told = (text) => (node.reachable ? text : "–");
  const figures = node.figures;
  const cpu = reading.cpu_percent ?? null;
  write(parts.cpu, told(cpu === null ? "–" : percent(cpu)));
  showBar(parts.cpu_bar, node.reachable ? cpu : null);
  write(parts.memory, told(bytes(figures.memory_bytes)));
  const size = figures.disk_total_bytes;
  const used = node.reachable && size ? 100 * (1 - figures.disk_free_bytes / size) : null;
  write(parts.disk, told(used === null ? "–" : percent(used)));
  write(parts.disk_free, told(`${bytes(figures.disk_free_bytes)} free`));
  tone(parts.disk, used > DISK_SEEN ? "warn" : "");
  showBar(parts.disk_bar, used);
}

function showBar(bar, value) {
  bar.style.inlineSize = `${Math.min(100, value ?? 0)}%`;
  tone(bar, value > DISK_SEEN ? "warn" : "");
}

function showState(element, node) {
  if (!node.reachable) [element.textContent, element.dataset.tone] = ["Not reachable", "bad"];
  else if (node.draining) [element.textContent, element.dataset.tone] = ["Draining", "warn"];
  else if (!node.ready) [element.textContent, element.dataset.tone] = ["Not ready", "warn"];
  else if (warns(node)) [element.textContent, element.dataset.tone] = ["Ready, warns", "warn"];
  else [element.textContent, element.dataset.tone] = ["Ready", "ok"];
}

function showReasons(list, node) {
  const reasons = node.reachable ? node.reasons : [node.error || "It gave no reason."];
  list.hidden = reasons.length === 0;
  tone(list, node.reachable ? "warn" : "bad");
  refill(list, reasons, () => reasons.map((reason) => make("li", "", reason)));
}

function showLinks(nav, node) {
  const links = [
    ["Dashboard", node.client_url, "/"],
    ["Health", node.monitor_url, "/health"],
    ["Metrics", node.monitor_url, "/metrics"],
  ].filter(([, base]) => /^https?:\/\//.test(base));
  nav.setAttribute("aria-label", `Pages of ${node.node_id}`);
  refill(nav, links, () =>
    links.map(([text, base, path]) => {
      const link = make("a", "", text);
      link.href = base.replace(/\/$/, "") + path;
      return link;
    }),
  );
}
