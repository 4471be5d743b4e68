// @ts-check
/** Finding, cloning and making elements. Text only ever becomes text. */

/** @import { Refs } from "./types" */

/** An element and those below, by their `data-chat`. @type {(root: HTMLElement) => Refs} */
export function refsIn(root) {
	const elements = [root, .../** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("*"))];
	// In old engines, SVG elements have no dataset.
	return Object.fromEntries(elements.map(each => [each.dataset?.chat, each]));
}

/** A copy of a template's only element. @type {(template: HTMLTemplateElement) => HTMLElement} */
export function clone(template) {
	const copied = document.importNode(template.content, true);
	return /** @type {HTMLElement} */ (copied.firstElementChild);
}

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

/** @type {(text: string, onClick: () => void) => HTMLButtonElement} */
export function button(text, onClick) {
	const made = element("button", { type: "button", chat: "action" }, text);
	made.onclick = onClick;
	return made;
}

/** @type {(text: string) => Promise<void>} */
export async function copy(text) {
	// The clipboard exists on https and localhost only.
	if (navigator.clipboard) return navigator.clipboard.writeText(text);
	const box = element("textarea", {}, text);
	document.body.append(box);
	box.select();
	document.execCommand("copy");
	box.remove();
}

/**
 * Calls what the `data-do` of a pressed element names, with the element and the event.
 * @param {HTMLElement} root
 * @param {Record<string, (pressed: any, event: MouseEvent) => unknown>} commands
 */
export function listen(root, commands) {
	root.addEventListener("click", event => {
		/** @type {HTMLButtonElement | null} */
		const pressed = /** @type {Element} */ (event.target).closest("[data-do]");
		if (pressed && !pressed.disabled) commands[pressed.dataset.do ?? ""]?.(pressed, event);
	});
}
