// @ts-check
/** The list of conversations, by day. */

/** @import { Chat, Summary } from "../types" */

import { clone, element, refsIn } from "../dom.js";

const DAY_MS = 86_400_000;
const TITLE_CHARS = 80;

/** @param {Chat} chat */
export function createConversationList(chat) {
	/** @type {Summary[]} */
	let shown = [];
	/** Deleted, but it can be taken back. @type {Set<string>} */
	const hidden = new Set();
	let current = "";
	const drawVisible = createDrawing(chat);
	const draw = () => drawVisible(shown.filter(each => !hidden.has(each.id)), current);

	return {
		/** @param {Summary[]} conversations */
		show(conversations) {
			shown = conversations;
			draw();
		},
		/** @param {string | null} id the conversation that is open */
		mark(id) {
			current = id ?? "";
			draw();
		},
		/** @param {string} id @returns whether it is the one that is open */
		hide(id) {
			hidden.add(id);
			draw();
			return id === current;
		},
		/** @param {string} id */
		unhide(id) {
			hidden.delete(id);
			draw();
		},
		/** It was deleted, or could not be: the next list shows which. @param {string} id */
		forget: id => hidden.delete(id),
		/** @type {(id: string, onRename: (title: string) => void) => void} */
		edit: (id, onRename) => editTitle(chat.refs.list, id, chat.texts.rename, onRename),
	};
}

/**
 * Redraws the list if it has changed.
 * @type {(chat: Chat) => (visible: Summary[], current: string) => void}
 */
function createDrawing(chat) {
	const { list, search } = chat.refs;
	let drawn = "";
	return (visible, current) => {
		if (list.querySelector("input")) return; // Somebody is typing in it.
		const { language } = chat.texts;
		const dated = visible.map(each => ({ ...each, day: dayOf(each.updated_at, language) }));
		const titles = dated.map(({ id, title, day }) => [id, title, day]);
		const next = JSON.stringify([current, search.value, titles]);
		if (next === drawn) return;
		drawn = next;
		keepFocus(list, () => list.replaceChildren(...groupsOf(chat, dated, current)));
	};
}

/** "Today", "Monday", "March 2026". @type {(time: string, language: string) => string} */
function dayOf(time, language) {
	const date = new Date(time);
	/** @param {Date} day */
	const midnight = day => new Date(day).setHours(0, 0, 0, 0);
	const days = Math.round((midnight(new Date()) - midnight(date)) / DAY_MS);
	const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
	if (days < 2) return relative.format(-days, "day");
	/** @type {Intl.DateTimeFormatOptions} */
	const options = days < 7 ? { weekday: "long" } : { month: "long", year: "numeric" };
	return new Intl.DateTimeFormat(language, options).format(date);
}

/**
 * A heading and a list for each day, or a note that there is nothing.
 * @param {Chat} chat
 * @param {(Summary & {day: string})[]} dated
 * @param {string} current
 */
function groupsOf(chat, dated, current) {
	const { refs, texts } = chat;
	const groups = Map.groupBy(dated, ({ day }) => day);
	if (!groups.size) return [element("p", {}, refs.search.value ? texts.nothing : texts.noneYet)];
	return [...groups].flatMap(([day, conversations]) => {
		const rows = conversations.map(each => rowOf(chat, each, current));
		return [element("h2", {}, day), element("ul", { "aria-label": day }, ...rows)];
	});
}

/** @type {(chat: Chat, conversation: Summary, current: string) => HTMLElement} */
function rowOf({ refs, config, texts }, { id, title }, current) {
	const row = clone(refs.rowTemplate);
	const { link, rowMore } = refsIn(row);
	row.dataset.id = id;
	link.href = config.urls.conversation_page + id;
	link.textContent = title || texts.newChat;
	if (id === current) link.ariaCurrent = "page";
	rowMore.ariaLabel = `${rowMore.title}: ${link.textContent}`;
	return row;
}

/**
 * Moves the focus to the element that replaces the focused one.
 * @type {(list: HTMLElement, draw: () => void) => void}
 */
function keepFocus(list, draw) {
	const { activeElement: focused } = /** @type {ShadowRoot} */ (list.getRootNode());
	const id = focused && list.contains(focused) && focused.closest("li")?.dataset.id;
	draw();
	if (!id) return;
	/** @type {HTMLElement | null} */
	const heir = list.querySelector(`[data-id="${id}"] ${focused.localName}`);
	heir?.focus();
}

/**
 * Replaces a title by an input, until Enter, Escape or loss of focus.
 * @param {HTMLElement} list
 * @param {string} id
 * @param {string} label
 * @param {(title: string) => void} onRename
 */
function editTitle(list, id, label, onRename) {
	const { link } = refsIn(/** @type {HTMLElement} */ (list.querySelector(`[data-id="${id}"]`)));
	const before = link.textContent;
	const maxlength = String(TITLE_CHARS);
	const input = element("input", { "aria-label": label, maxlength, value: before });
	/** @param {boolean} isKept */
	const close = isKept => {
		const title = input.value.trim();
		input.onblur = null; // Removing it would trigger this.
		input.replaceWith(link);
		link.focus();
		if (!isKept || !title || title === before) return;
		link.textContent = title;
		onRename(title);
	};
	input.onblur = () => close(true);
	input.onkeydown = event => {
		if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
		event.stopPropagation();
		close(event.key === "Enter");
	};
	link.replaceWith(input);
	input.select();
}
