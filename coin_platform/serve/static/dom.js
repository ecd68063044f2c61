// Small helpers for the document. Text is only ever set as text: nothing that an exchange sends becomes markup.

export const byId = (id) => document.getElementById(id);

/** Return a new element with these attributes and children. A child that is text becomes a text node. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const texts = new WeakMap();

/** Set the text of an element, if it is another one: an unchanged document costs no layout. */
export function setText(element, text) {
  if (texts.get(element) === text) return;
  texts.set(element, text);
  element.textContent = text;
}

/** Set an attribute, if it has another value; `null` takes it away. */
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Keep one row for each item, in their order. `create(item)` gives `{element, update(item)}`; rows of other items end. */
export class Rows {
  #parent;
  #create;
  #rows = new Map();

  constructor(parent, create) {
    this.#parent = parent;
    this.#create = create;
  }

  show(items, keyOf) {
    const left = new Set(this.#rows.keys());
    let place = this.#parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      let row = this.#rows.get(key);
      if (!row) this.#rows.set(key, (row = this.#create(item)));
      left.delete(key);
      row.update(item);
      if (row.element === place) place = place.nextElementSibling;
      else this.#parent.insertBefore(row.element, place);
    }
    for (const key of left) {
      this.#rows.get(key).element.remove();
      this.#rows.delete(key);
    }
  }

  clear() {
    this.#rows.clear();
    this.#parent.replaceChildren();
  }
}
