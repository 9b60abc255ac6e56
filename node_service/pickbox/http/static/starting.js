// Sees that the page starts. No module: one whose imports do not fit is not run, and cannot say so.
// Behind a balancer, while releases are mixed, page and scripts may be of different ones.

(() => {
  const PATIENCE_MS = 10000;
  const verdict = document.getElementById("verdict");
  const before = verdict.textContent; // a page that has started says something else

  // What starts late after all says how it is, and hides the banner.
  const tell = () => {
    if (verdict.textContent !== before) return;
    const banner = document.getElementById("banner");
    verdict.dataset.tone = banner.dataset.tone = "bad";
    verdict.textContent = "Not started";
    banner.textContent = "This page has not started. Please reload it.";
    banner.hidden = false;
  };

  // A script that fails, or is not to be had; without a picture or a style the page starts. Errors of
  // elements do not bubble.
  const hear = ({ target }) => {
    if (target === window || target instanceof HTMLScriptElement) tell();
  };
  addEventListener("error", hear, true);
  setTimeout(tell, PATIENCE_MS);
})();
