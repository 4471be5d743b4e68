// @ts-check
/** Leaf blocks as nodes that grow: text and code (CommonMark 0.31 §4, GFM tasks). */

/** @import { Add, CodeLeaf, DrawLeaf, OpenCode, OpenText, TextLeaf } from "../types" */

import { button, copy, element } from "../dom.js";
import { addText, drawText } from "./inline.js";

/** Longer text continues in another element, so that layout need not start from the top. */
const PIECE_MOST = 8000;
const COPIED_MS = 2000;

const TASK = /^\[([ xX])\][ \t]/;

/** @type {OpenText} */
export function openText(holder, within, tag, text) {
	const home = element(tag, within === "root" ? { dir: "auto" } : {});
	const isFirst = tag === "p" && within === "item" && !holder.firstChild;
	const task = isFirst ? TASK.exec(text) : null;
	if (task) home.append(element("span", { chat: "task" }, task[1] === " " ? "☐" : "☑"));
	holder.append(home);
	return textIn(home, tag, task ? text.slice(3) : text);
}

/** @type {(home: HTMLElement, tag: TextLeaf["tag"], held: string) => TextLeaf} */
function textIn(home, tag, held) {
	return { type: "text", tag, home, final: home.lastChild, rest: "", held, size: 0 };
}

/** Math is code that has no language, and whose fence belongs to it. @type {OpenCode} */
export function openCode(holder, texts, fence, indent, language, isMath) {
	const home = element("span", {});
	const code = element("code", {}, home);
	const copier = button(texts.copy, async () => {
		await copy(code.textContent ?? "");
		copier.textContent = texts.copied;
		setTimeout(() => (copier.textContent = texts.copy), COPIED_MS);
	});
	holder.append(
		element(
			"figure",
			{ chat: "code", "data-language": language },
			element("figcaption", {}, element("span", {}, language), copier),
			element("pre", { tabindex: "0", dir: "ltr" }, code),
		),
	);
	return { type: "code", home, fence, indent, size: 0, isMath };
}

/** More of a text or of code. @type {Add} */
export function add(leaf, text) {
	if (leaf.type === "code") addCode(leaf, text);
	else addHeld(leaf, text);
}

/** @type {(leaf: CodeLeaf, text: string) => void} */
function addCode(leaf, text) {
	if (leaf.size > PIECE_MOST) {
		const next = element("span", {});
		leaf.home.after(next);
		leaf.home = next;
		leaf.size = 0;
	}
	leaf.size += text.length;
	const last = leaf.isDraft ? null : leaf.home.lastChild;
	if (last instanceof Text) last.appendData(text);
	else leaf.home.append(text);
}

/** @type {(leaf: TextLeaf, text: string) => void} */
function addHeld(leaf, text) {
	leaf.size += text.length;
	addText(leaf, leaf.held);
	leaf.held = text;
	if (leaf.size <= PIECE_MOST) return;
	const { home } = leaf;
	const more = /** @type {HTMLElement} */ (home.cloneNode());
	more.dataset.chat = "more";
	drawLeaf(leaf, false);
	home.after(more);
	Object.assign(leaf, textIn(more, "p", ""));
}

/**
 * The next line of text or code. The last one is held back: it may be a table's head.
 * @type {Add}
 */
export function addLine(leaf, text) {
	if (leaf.type === "text") return addHeld(leaf, `\n${text}`);
	if (leaf.size) addCode(leaf, "\n");
	addCode(leaf, text);
	// Only the first line continues nothing.
	leaf.size ||= 1;
}

/** Draws a text as far as it has come; all else is drawn already. @type {DrawLeaf} */
export function drawLeaf(leaf, isOpen) {
	if (leaf?.type === "text") drawText(leaf, leaf.rest + leaf.held, isOpen);
}
