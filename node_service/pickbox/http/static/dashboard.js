// The dashboard: shows what the node's feed tells.

import { conflictsChanged, readConflicts, setUpConflicts } from "./conflicts.js";
import { Feed } from "./feed.js";
import { currentDirectory, readAgain, readSoon, setUpFiles } from "./files.js";
import { clock } from "./format.js";
import { drawGraphs, setUpGraphs } from "./graphs.js";
import { showEvents } from "./happenings.js";
import { History } from "./history.js";
import { showNodes } from "./nodes.js";
import { showChecks, showSummary } from "./overview.js";
import { part, tone, write } from "./page.js";
import { isCopy } from "./paths.js";
import { ask } from "./requests.js";
import { setUpUploads } from "./uploads.js";
import { nameTab, setVerdict, showSituation, showVerdict } from "./verdict.js";

const history = new History();
let lastAnswer = null;
let thisNode = "This node";

function showState({ cluster, health, history: told }, live) {
  const first = lastAnswer === null;
  const silent = !part("banner").hidden;
  lastAnswer = new Date();
  part("main").classList.remove("stale");
  part("banner").hidden = true;
  write(part("updated"), `Updated ${clock(lastAnswer)}, ${live ? "live" : "every 5 s"}`);
  part("updated").classList.toggle("live", live);
  write(part("cluster-name"), cluster.cluster_name);
  thisNode = `This node, ${cluster.node_id},`;
  write(part("seen-by"), cluster.node_id);
  if (!history.add(told)) catchUp();
  showVerdict(cluster);
  showSituation(cluster);
  showSummary(cluster, history);
  showNodes(cluster, history.latest());
  showChecks(health);
  drawGraphs();
  if (silent) readAgain();
  if (silent || first) readConflicts();
}

async function catchUp() {
  try {
    history.add(await ask(`/api/history?since=${history.since}`), true);
    drawGraphs();
  } catch (error) {
    if (!feed.live) showSilence(error); // else the node has just told how it is, and will again
  }
}

function showSilence(error) {
  const silent = lastAnswer ? `has not answered since ${clock(lastAnswer)}` : "does not answer";
  const told = navigator.onLine ? silent : `${silent}: this device is offline`;
  const meaning = lastAnswer ? " What is shown below is what it said last." : "";
  const reason =
    error instanceof TypeError || error.name === "TimeoutError" ? "" : ` (${error.message})`;
  const banner = part("banner");
  tone(banner, "bad");
  write(banner, `${thisNode} ${told}${reason}.${meaning} Trying again every 5 s.`);
  banner.hidden = false;
  part("main").classList.toggle("stale", lastAnswer !== null);
  part("updated").classList.remove("live");
  write(part("updated"), lastAnswer ? `Last updated ${clock(lastAnswer)}` : "Not updated yet");
  part("situation").hidden = true;
  setVerdict("Not reachable", "bad");
}

function eventsTold(events) {
  const fresh = showEvents(events);
  const kinds = new Set(fresh.map(({ kind }) => kind));
  if (!kinds.has("files_changed") && !kinds.has("conflict")) return;
  readSoon();
  if (lastAnswer === null) return; // what was before is in what is read then
  conflictsChanged(kinds.has("conflict") || fresh.some(({ paths }) => paths.some(isCopy)));
}

const feed = new Feed(
  { state: showState, events: eventsTold, silence: showSilence },
  () => history.since,
);
setUpGraphs(history);
setUpFiles();
setUpConflicts(readAgain);
setUpUploads(currentDirectory, readAgain);
part("refresh").addEventListener("click", () => feed.refresh());
for (const change of ["online", "offline"]) {
  addEventListener(change, () => document.visibilityState === "visible" && feed.start());
}
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") return feed.start();
  feed.stop();
  nameTab();
});
feed.start();
