// @ts-check
/** Finding, cloning and making elements. Text only ever becomes text. */

/** An element and those below, by their `data-chat`. @type {(root: HTMLElement) => Record<string, any>} */
export const hooks = root =>
	Object.fromEntries([root, ...root.querySelectorAll("*")].map(each => [/** @type {any} */ (each).dataset?.chat, each]));

/** A copy of a template's only element. @type {(template: HTMLTemplateElement) => HTMLElement} */
export const clone = template =>
	/** @type {any} */ (document.importNode(template.content, true).firstElementChild);

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

/** Outside of https and localhost there is no clipboard. @type {(text: string) => Promise<void>} */
export async function copy(text) {
	if (navigator.clipboard) return navigator.clipboard.writeText(text);
	const box = element("textarea", {}, text);
	document.body.append(box);
	box.select();
	document.execCommand("copy");
	box.remove();
}

/** Calls what the `data-do` of a pressed element names, with the element and the event. */
export function listen(root, /** @type {Record<string, Function>} */ commands) {
	root.addEventListener("click", event => {
		const pressed = event.target.closest("[data-do]");
		if (pressed && !pressed.disabled) commands[pressed.dataset.do]?.(pressed, event);
	});
}
