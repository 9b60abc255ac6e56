// The cluster at a glance: tiles and checks.

import { bytes, clock, count, plural, rate, shortTime, words } from "./format.js";
import { make, part, refill, tone, write } from "./page.js";

export function showSummary(cluster, history) {
  const up = cluster.nodes.filter((node) => node.reachable);
  const here = cluster.nodes.find((node) => node.node_id === cluster.node_id) ?? cluster.nodes[0];
  const sum = (name) => up.reduce((total, node) => total + node.figures[name], 0);
  const pending = sum("pending");
  write(part("sum-leader"), cluster.leader ?? "None");
  tone(part("sum-leader"), cluster.leader && cluster.has_quorum ? "" : "bad");
  const majority = cluster.has_quorum || cluster.standing ? "" : ", no majority";
  write(part("sum-term"), `term ${count(cluster.term)}${majority}`);
  write(part("sum-up"), `${up.length} of ${cluster.nodes.length}`);
  const lacking = cluster.has_quorum ? "warn" : "bad";
  tone(part("sum-up"), up.length === cluster.nodes.length ? "" : lacking);
  write(part("sum-quorum"), `quorum is ${cluster.quorum}`);
  write(part("sum-files"), count(here.figures.files));
  write(part("sum-bytes"), bytes(here.figures.bytes));
  write(part("sum-lag"), count(Math.max(0, ...up.map((node) => node.lag))));
  write(part("sum-pending"), `${pending ? plural(pending, "file", "files") : "nothing"} pending`);
  showCommits(up, history.latest());
  showReplication(history, sum("replication_errors"));
}

function showCommits(up, readings) {
  const known = Object.values(readings);
  const rates = known.map((r) => r.commits_per_second).filter((value) => value !== null);
  write(part("sum-rate"), rates.length ? rate(Math.max(...rates)) : "–");
  const index = Math.max(0, ...up.map((node) => node.commit_index));
  write(part("sum-commit"), `index ${count(index)}`);
}

function showReplication(history, errors) {
  const last = lastReplication(history);
  write(part("sum-time"), last ? shortTime(last.seconds) : "–");
  const when = last ? `slowest node, ${clock(new Date(1000 * last.at))}` : "nothing lately";
  const failed = errors ? `; ${plural(errors, "error", "errors")} so far` : "";
  write(part("sum-errors"), `${when}${failed}`);
}

// The newest sample in which anything was replicated: when it was, and how long it took to reach
// the node that was slowest with it.
function lastReplication({ times, nodes }) {
  for (let i = times.length - 1; i >= 0; i -= 1) {
    const known = Object.values(nodes)
      .map((figures) => figures.replication_seconds?.[i] ?? null)
      .filter((seconds) => seconds !== null);
    if (known.length) return { at: times[i], seconds: Math.max(...known) };
  }
  return null;
}

export function showChecks(health) {
  write(part("checks-node"), health.node_id);
  refill(part("checks"), health.checks, () => {
    const failing = make("ul", "failing");
    failing.append(...health.checks.filter((check) => !check.ok).map(failingCheck));
    const passing = make("ul", "passing");
    passing.setAttribute("aria-label", "Checks that pass");
    passing.append(
      ...health.checks.filter((check) => check.ok).map(({ name }) => make("li", "", words(name))),
    );
    return [failing, passing].filter((group) => group.childElementCount > 0);
  });
}

function failingCheck(check) {
  const state = make("span", "state", check.gates_ready ? "Fails" : "Warns");
  tone(state, check.gates_ready ? "bad" : "warn");
  const name = make("span", "name", words(check.name));
  return make("li", "", state, name, make("span", "reason", check.reason));
}
