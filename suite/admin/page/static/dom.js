// Making and changing elements. Text is always text: nothing here, or anywhere in these scripts, parses markup
// that did not come whole from the server's own page.

/** An element with attributes (true: without a value; null and false: none), `on…` listeners, and children. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value != null && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null && child !== ""));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of SVG with attributes. */
export function makeSvg(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** Set the text of an element, if it differs: an unchanged one is not announced, drawn or selected anew. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Rows of a list in place, so that neither focus nor selection is lost.
 *
 * @param parent has them, each with its key in `data-key`.
 * @param items what is to be shown, in order.
 * @param key the key of an item.
 * @param add makes the row of an item.
 * @param update brings a row up to date.
 */
export function sync(parent, items, key, add, update) {
  const before = new Map([...parent.children].map((row) => [row.dataset.key, row]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let row = before.get(name);
    before.delete(name);
    if (!row) {
      row = add(item);
      row.dataset.key = name;
    }
    if (row === place) place = place.nextElementSibling;
    else parent.insertBefore(row, place);
    update?.(row, item);
  }
  for (const row of before.values()) row.remove();
}
