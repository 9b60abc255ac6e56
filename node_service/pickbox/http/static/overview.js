// The cluster at a glance: tiles and checks.

import { bytes, count, plural, rate, shortTime, words } from "./format.js";
import { make, part, refill, tone, write } from "./page.js";

export function showSummary(cluster, readings) {
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
  showReplication(up, sum("replication_errors"), readings);
}

function showReplication(up, errors, readings) {
  const known = Object.values(readings);
  const rates = known.map((r) => r.commits_per_second).filter((value) => value !== null);
  write(part("sum-rate"), rates.length ? rate(Math.max(...rates)) : "–");
  const index = Math.max(0, ...up.map((node) => node.commit_index));
  write(part("sum-commit"), `index ${count(index)}`);
  const counted = up.reduce((total, node) => total + node.figures.replications, 0);
  const total = up.reduce(
    (sum, node) => sum + node.figures.replications * node.figures.replication_seconds_avg,
    0,
  );
  write(part("sum-time"), counted ? shortTime(total / counted) : "–");
  const failed = `${plural(errors, "error", "errors")} so far`;
  write(part("sum-errors"), errors ? failed : "mean, no errors");
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
