// The page's elements. Whatever comes from the cluster is text: it is never parsed as markup.

export const part = (id) => document.getElementById(id);

export function write(element, text) {
  const value = String(text);
  if (element.textContent !== value) element.textContent = value;
}

export function tone(element, name) {
  if (name) element.dataset.tone = name;
  else delete element.dataset.tone;
}

export function make(name, className, ...content) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

export function button(className, text, onClick) {
  const element = make("button", className, text);
  element.type = "button";
  element.addEventListener("click", onClick);
  return element;
}

// Fills `element` anew, but only if what it is to show is something else than before: a person
// may be reading it, or have the focus in it.
export function refill(element, shown, content) {
  const key = JSON.stringify(shown);
  if (element.dataset.shown === key) return;
  element.dataset.shown = key;
  element.replaceChildren(...content());
}

// Has `parent` contain `wanted` in that order. What is in its place already is not touched: taken
// out and put in again, it would lose the focus.
export function arrange(parent, wanted) {
  const kept = new Set(wanted);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  wanted.forEach((child, i) => {
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null);
  });
}
