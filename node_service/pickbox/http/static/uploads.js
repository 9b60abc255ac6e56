// Uploads into the directory that is open, one after the other.

import { part } from "./page.js";
import { Upload } from "./upload.js";

const SHOWN = 8;

let queue = Promise.resolve();
const uploads = new Set(); // those whose item is in the list

// `where()` is the directory that is open; `stored()` is told after each file.
export function setUpUploads(where, stored) {
  const chooser = part("chooser");
  const take = (files, why = () => "") => {
    for (const file of files) add(new Upload(file, where().encoded, enqueue, stored), why(file));
  };
  part("upload").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    take(chooser.files);
    chooser.value = "";
  });
  takeDrops(part("files"), take);
  addEventListener("beforeunload", (event) => {
    if ([...uploads].some((upload) => upload.unfinished)) event.preventDefault();
  });
}

function takeDrops(panel, take) {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  panel.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    panel.classList.add("drop");
  });
  panel.addEventListener("dragleave", (event) => {
    if (!panel.contains(event.relatedTarget)) panel.classList.remove("drop");
  });
  panel.addEventListener("drop", (event) => {
    panel.classList.remove("drop");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    const directories = droppedDirectories(event.dataTransfer.items);
    const why = ({ name }) => (directories.has(name) ? "is a directory; upload its files" : "");
    take(event.dataTransfer.files, why);
  });
}

// Their names: a browser gives them as files that nobody can read.
function droppedDirectories(items) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.());
  return new Set(entries.filter((entry) => entry?.isDirectory).map(({ name }) => name));
}

function add(upload, why) {
  uploads.add(upload);
  part("uploads").prepend(upload.item);
  part("uploads").hidden = false;
  if (why) upload.refuse(why);
  else upload.begin();
  forgetOldest();
}

function enqueue(upload) {
  queue = queue.then(() => upload.run());
}

// What waits, or asks something, stays in view.
function forgetOldest() {
  const ended = [...uploads].filter(({ item }) => "ended" in item.dataset);
  for (const upload of ended.slice(0, Math.max(0, uploads.size - SHOWN))) {
    upload.item.remove();
    uploads.delete(upload);
  }
}
