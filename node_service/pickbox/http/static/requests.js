// Asking the node.

import { encodedPath, pathBytes } from "./paths.js";

const TIMEOUT_MS = 4500;

export async function ask(address, options = {}) {
  const response = await fetch(address, {
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
    ...options,
  });
  // A node that is not ready says so with 503 and tells its health all the same.
  const document = await documentOf(response);
  if (!response.ok && document.checks === undefined) throw new Error(document.detail);
  return document;
}

export async function documentOf(response) {
  try {
    return await response.json();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new Error(`something between here and the node answered with ${response.status}`);
  }
}

// The entry at a percent-encoded path, as this node knows it; null if there is none.
export async function entryAt(encoded) {
  const { entries } = await ask(`/api/v1/files?limit=1&prefix=${encoded}`);
  const found = entries.find((entry) => encodedPath(pathBytes(entry)) === encoded);
  return found ?? null;
}

// A name under which a write is done once, however often it is sent. crypto.randomUUID would need
// HTTPS.
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
