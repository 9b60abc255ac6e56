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
