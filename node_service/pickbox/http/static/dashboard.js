// The dashboard: asks /api/cluster and /api/health every five seconds and writes what they say.
// Whatever comes from the cluster is text: it is never parsed as markup.

const REFRESH_MS = 5000;
const TIMEOUT_MS = 4500;
const HISTORY = 60; // samples of the chart: five minutes
const FEWEST = 12; // samples that the chart is wide, at least
const LAG_SEEN = 50; // entries behind that are worth a colour: a busy follower is a few behind
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const ROLES = { leader: "Leader", follower: "Follower", candidate: "Candidate" };

const cards = new Map(); // node id -> its card's parts
const cpu = new Map(); // node id -> the last reading of its processor time
const rates = []; // commits a second, oldest first
let lastCommit = null;
let lastAnswer = null;
let thisNode = "This node";
let timer = 0;
let asking = false;

const part = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en").format;

function write(element, text) {
  const value = String(text);
  if (element.textContent !== value) element.textContent = value;
}

function tone(element, name) {
  if (name) element.dataset.tone = name;
  else delete element.dataset.tone;
}

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function bytes(value) {
  let unit = 0;
  let size = value;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size < 10 && unit ? size.toFixed(1) : Math.round(size)} ${UNITS[unit]}`;
}

function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function shortTime(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

function clock(date) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

async function ask(address) {
  const response = await fetch(address, {
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  // A node that is not ready says so with 503 and tells its health all the same.
  const document = await response.json();
  if (!response.ok && document.checks === undefined) throw new Error(document.detail);
  return document;
}

async function refresh() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    const [cluster, health] = await Promise.all([ask("/api/cluster"), ask("/api/health")]);
    lastAnswer = new Date();
    showAnswer(cluster, health);
  } catch (error) {
    showSilence(error);
  } finally {
    asking = false;
    if (document.visibilityState === "visible") timer = setTimeout(refresh, REFRESH_MS);
  }
}

function showAnswer(cluster, health) {
  part("main").classList.remove("stale");
  part("banner").hidden = true;
  write(part("updated"), `Updated ${clock(lastAnswer)}, every 5 s`);
  write(part("cluster-name"), cluster.cluster_name);
  thisNode = `This node, ${cluster.node_id},`;
  write(part("seen-by"), cluster.node_id);
  showVerdict(cluster);
  showSummary(cluster);
  showNodes(cluster);
  showChecks(health);
}

function showSilence(error) {
  const told = lastAnswer ? `has not answered since ${clock(lastAnswer)}` : "does not answer";
  const meaning = lastAnswer ? " What is shown below is what it said last." : "";
  const reason = error instanceof TypeError || error.name === "TimeoutError" ? "" : ` (${error.message})`;
  const banner = part("banner");
  tone(banner, "bad");
  write(banner, `${thisNode} ${told}${reason}.${meaning} Trying again every 5 s.`);
  banner.hidden = false;
  part("main").classList.toggle("stale", lastAnswer !== null);
  write(part("updated"), lastAnswer ? `Last updated ${clock(lastAnswer)}` : "Not updated yet");
  setVerdict("Not reachable", "bad");
}

function setVerdict(text, name) {
  write(part("verdict"), text);
  tone(part("verdict"), name);
  document.title = `${text} · Pickbox`;
}

function showVerdict(cluster) {
  const unwell = cluster.nodes.filter((node) => !node.ready).length;
  if (!cluster.has_quorum) setVerdict("No quorum", "bad");
  else if (!cluster.leader) setVerdict("No leader", "bad");
  else if (unwell) setVerdict(`${plural(unwell, "node needs", "nodes need")} attention`, "warn");
  else setVerdict("Healthy", "ok");
}

function showSummary(cluster) {
  const up = cluster.nodes.filter((node) => node.reachable);
  const here = cluster.nodes.find((node) => node.node_id === cluster.node_id) ?? cluster.nodes[0];
  const sum = (name) => up.reduce((total, node) => total + node.figures[name], 0);
  const lag = Math.max(0, ...up.map((node) => node.lag));
  const pending = sum("pending");
  const errors = sum("replication_errors");
  write(part("sum-leader"), cluster.leader ?? "None");
  tone(part("sum-leader"), cluster.leader && cluster.has_quorum ? "" : "bad");
  const majority = cluster.has_quorum ? "" : ", no majority";
  write(part("sum-term"), `term ${count(cluster.term)}${majority}`);
  write(part("sum-up"), `${up.length} of ${cluster.nodes.length}`);
  tone(part("sum-up"), up.length === cluster.nodes.length ? "" : cluster.has_quorum ? "warn" : "bad");
  write(part("sum-quorum"), `quorum is ${cluster.quorum}`);
  write(part("sum-files"), count(here.figures.files));
  write(part("sum-bytes"), bytes(here.figures.bytes));
  write(part("sum-lag"), count(lag));
  const content = pending ? plural(pending, "file", "files") : "nothing";
  write(part("sum-pending"), `${content} pending`);
  write(part("sum-time"), shortTime(cluster.avg_repl_time));
  write(part("sum-errors"), errors ? `${plural(errors, "error", "errors")} so far` : "mean, no errors");
  showCommits(Math.max(0, ...up.map((node) => node.commit_index)), cluster.timestamp);
}

function showCommits(index, at) {
  if (lastCommit && at > lastCommit.at) {
    rates.push(Math.max(0, index - lastCommit.index) / (at - lastCommit.at));
    if (rates.length > HISTORY) rates.shift();
  }
  if (!lastCommit || at > lastCommit.at) lastCommit = { index, at };
  const rate = rates.at(-1);
  write(part("sum-rate"), rate === undefined ? "–" : `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} /s`);
  write(part("sum-commit"), `index ${count(index)}`);
  drawChart();
}

function drawChart() {
  const [width, height, floor] = [180, 44, 42];
  const highest = Math.max(1, ...rates);
  const step = width / (Math.max(FEWEST, rates.length) - 1);
  const points = rates.map((rate, i) => {
    const x = width - (rates.length - 1 - i) * step;
    return `${x.toFixed(1)} ${(floor - (rate / highest) * (floor - 3)).toFixed(1)}`;
  });
  const line = points.length > 1 ? `M${points.join("L")}` : "";
  part("spark-line").setAttribute("d", line);
  const start = (width - (rates.length - 1) * step).toFixed(1);
  part("spark-area").setAttribute("d", line && `${line}L${width} ${height}L${start} ${height}Z`);
}

function showNodes(cluster) {
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
    fillCard(cards.get(node.node_id), node, cluster);
  }
}

function newCard() {
  const element = part("node-template").content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const found of element.querySelectorAll("[data-of]")) parts[found.dataset.of] = found;
  return { element, parts };
}

function fillCard({ element, parts }, node, cluster) {
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
  write(parts.memory, told(bytes(figures.memory_bytes)));
  const share = processorShare(node);
  write(parts.cpu_label, node.reachable && share !== null ? `CPU ${Math.round(share)} %` : "CPU");
  write(parts.cpu, told(processorTime(figures.cpu_seconds)));
  write(parts.disk, told(bytes(figures.disk_free_bytes)));
  write(parts.uptime, told(duration(figures.uptime_seconds)));
  write(parts.version, `version ${node.version}`);
  showLinks(parts.links, node);
}

function showState(element, node) {
  if (!node.reachable) [element.textContent, element.dataset.tone] = ["Not reachable", "bad"];
  else if (node.draining) [element.textContent, element.dataset.tone] = ["Draining", "warn"];
  else if (!node.ready) [element.textContent, element.dataset.tone] = ["Not ready", "warn"];
  else [element.textContent, element.dataset.tone] = ["Ready", "ok"];
}

function showReasons(list, node) {
  const reasons = node.reachable ? node.reasons : [node.error || "It gave no reason."];
  list.hidden = reasons.length === 0;
  tone(list, node.reachable ? "warn" : "bad");
  if (list.dataset.shown === JSON.stringify(reasons)) return;
  list.dataset.shown = JSON.stringify(reasons);
  list.replaceChildren(...reasons.map((reason) => make("li", "", reason)));
}

function processorTime(seconds) {
  return `${seconds < 100 ? seconds.toFixed(1) : count(Math.round(seconds))} s`;
}

// Percent of one processor between the last two readings; null until there are two.
function processorShare(node) {
  const { cpu_seconds: used, uptime_seconds: at } = node.figures;
  const before = cpu.get(node.node_id);
  if (!before || at < before.at) cpu.set(node.node_id, { used, at, share: null });
  else if (at - before.at > 1) {
    cpu.set(node.node_id, { used, at, share: (100 * (used - before.used)) / (at - before.at) });
  }
  return cpu.get(node.node_id).share;
}

function showLinks(nav, node) {
  const links = [
    ["Dashboard", node.client_url, "/"],
    ["Health", node.monitor_url, "/health"],
    ["Metrics", node.monitor_url, "/metrics"],
  ].filter(([, base]) => /^https?:\/\//.test(base));
  const shown = JSON.stringify(links);
  if (nav.dataset.shown === shown) return;
  nav.dataset.shown = shown;
  nav.setAttribute("aria-label", `Pages of ${node.node_id}`);
  nav.replaceChildren(
    ...links.map(([text, base, path]) => {
      const link = make("a", "", text);
      link.href = base.replace(/\/$/, "") + path;
      return link;
    }),
  );
}

function showChecks(health) {
  write(part("checks-node"), health.node_id);
  const list = part("checks");
  const shown = JSON.stringify(health.checks);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  const failing = make("ul", "failing");
  failing.append(...health.checks.filter((check) => !check.ok).map(failingCheck));
  const passing = make("ul", "passing");
  passing.setAttribute("aria-label", "Checks that pass");
  passing.append(...health.checks.filter((check) => check.ok).map(({ name }) => make("li", "", words(name))));
  list.replaceChildren(...[failing, passing].filter((group) => group.childElementCount > 0));
}

function words(name) {
  return name.replaceAll("_", " ");
}

function failingCheck(check) {
  const item = make("li");
  const state = make("span", "state", check.gates_ready ? "Fails" : "Warns");
  tone(state, check.gates_ready ? "bad" : "warn");
  item.append(state, make("span", "name", words(check.name)), make("span", "reason", check.reason));
  return item;
}

async function showConflicts() {
  const list = part("conflict-list");
  try {
    const { conflicts, more } = await ask("/api/conflicts");
    const items = conflicts.map((entry) => {
      const item = make("li", "", entry.path);
      item.append(make("span", "meta", `  ${bytes(entry.size)}, from ${entry.origin}`));
      return item;
    });
    if (items.length === 0) items.push(make("li", "", "There are none."));
    if (more) items.push(make("li", "", "There are more than these."));
    list.replaceChildren(...items);
  } catch {
    list.replaceChildren(make("li", "", "The list could not be read; close and open it again."));
  }
}

part("refresh").addEventListener("click", refresh);
part("conflicts").addEventListener("toggle", (event) => {
  if (event.target.open) showConflicts();
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") refresh();
  else clearTimeout(timer); // nobody looks: ask nothing
});
refresh();
