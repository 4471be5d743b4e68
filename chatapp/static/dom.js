// @ts-check
/** Building and finding elements. Text only ever becomes text. */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} attributes `chat` is short for the hook `data-chat`
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, { chat, ...attributes }, ...children) {
  const made = document.createElement(tag);
  if (chat) made.dataset.chat = chat;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * @param {string} text
 * @param {() => void} onClick
 */
export function button(text, onClick) {
  const made = element("button", { type: "button", chat: "action" }, text);
  made.addEventListener("click", onClick);
  return made;
}

/**
 * @template {HTMLElement} [Kind=HTMLElement]
 * @param {HTMLElement} root
 * @param {string} hook
 * @returns {Kind} the one element with that `data-chat`
 */
export function find(root, hook) {
  const found = root.querySelector(`[data-chat="${hook}"]`);
  if (!found) throw new Error(`the page has no element data-chat="${hook}"`);
  return /** @type {Kind} */ (found);
}
