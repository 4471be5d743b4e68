// @ts-check
/** What the reader can do with buttons, menus and keys. */

/** @import { Commands, Conversation, OpenChat, Texts } from "./types" */

import { copy, element, listen } from "./dom.js";
import { request } from "./net/api.js";

/** How long the browser has to start a download. */
const KEPT_MS = 10_000;

/** @param {OpenChat} open */
export function connectCommands(open) {
	const { root, refs, isPage, signal } = open.chat;
	const opener = createOpener(open);
	const commands = { ...commandsOf(open), ...commandsOfMenus(open, opener) };
	listen(root, commands);
	const target = isPage ? document : root;
	const onKey = (/** @type {any} */ event) => handleKey(open, commands, event);
	target.addEventListener("keydown", onKey, { signal });
	for (const menu of [refs.rowMenu, refs.pageMenu]) {
		// In a shadow tree, Chromium does not restore the focus.
		menu.onbeforetoggle = (/** @type {ToggleEvent} */ { newState }) => {
			const { activeElement } = /** @type {ShadowRoot} */ (root.getRootNode());
			if (newState === "closed" && menu.contains(activeElement)) opener.focus();
		};
	}
}

/** The button that opened a menu. @param {OpenChat} open */
function createOpener(open) {
	let button = open.chat.refs.show;
	return {
		focus: () => button.focus(),
		/** @param {HTMLElement} pressed */
		pick: pressed => (button = pressed),
		/** The conversation that the menu is about. @returns {string} */
		conversation: () => button.closest("li")?.dataset.id ?? open.id,
	};
}

/** @type {(open: OpenChat) => Commands} */
const commandsOf = open => ({
	new: (_, event) => visit(event, () => open.go(null)),
	open: (link, event) => visit(event, () => open.go(link.closest("li").dataset.id)),
	more: () => open.sidebar.showMore(),
	toggle: () => open.sidebar.toggle(),
	toEnd: () => open.thread.stay(),
	help: () => open.chat.refs.help.showModal(),
	options: () => open.options.open(),
	fresh: () => open.go(null),
	search: () => open.sidebar.find(),
	focus: () => open.chat.refs.box.focus(),
	escape: () => open.sidebar.rest() || open.conversation.stop(),
	copyNewest: () => copy(open.conversation.newestAnswer() ?? ""),
	editNewest: () => open.conversation.editNewest(),
});

/** @type {(open: OpenChat, opener: ReturnType<typeof createOpener>) => Commands} */
const commandsOfMenus = ({ chat, sidebar, report }, opener) => ({
	pick: opener.pick,
	rename: () => sidebar.rename(opener.conversation()),
	remove: () => sidebar.remove(opener.conversation()),
	export({ dataset: { format } }) {
		const url = `${chat.config.urls.conversations}/${opener.conversation()}`;
		request(url, chat.signal)
			.then(got => exportFile(got, format, chat.texts))
			.catch(report);
	},
});

/**
 * Follows a link, unless it should open in another tab.
 * @type {(event: MouseEvent, go: () => void) => void}
 */
function visit(event, go) {
	if (event.ctrlKey || event.metaKey || event.shiftKey) return;
	event.preventDefault();
	go();
}

/** @type {(open: OpenChat, commands: Commands, event: KeyboardEvent) => void} */
function handleKey({ chat: { config, refs } }, commands, event) {
	const target = /** @type {Element} */ (event.composedPath()[0]);
	const { ctrlKey, metaKey, shiftKey, key } = event;
	const held = [ctrlKey || metaKey ? "mod" : "", shiftKey ? "shift" : "", key.toLowerCase()];
	const command = config.shortcuts[held.filter(Boolean).join("+")];
	if (!command || event.isComposing || target.closest?.("dialog[open], :popover-open")) return;
	// An arrow key edits only if it can't move the caret.
	if (command === "editNewest" && (target !== refs.box || refs.box.value)) return;
	event.preventDefault();
	commands[command](null, event);
}

/**
 * A conversation as a file.
 * @type {(conversation: Conversation, format: string, texts: Texts) => void}
 */
function exportFile(conversation, format, texts) {
	const title = conversation.title || texts.newChat;
	const text =
		format === "md"
			? markdownOf(conversation, title, texts)
			: JSON.stringify(conversation, null, 2);
	const href = URL.createObjectURL(new Blob([text]));
	const name = title.replace(/[^\p{L}\p{N}]+/gu, "-");
	element("a", { href, download: `${name}.${format}` }).click();
	setTimeout(() => URL.revokeObjectURL(href), KEPT_MS);
}

/** @type {(conversation: Conversation, title: string, texts: Texts) => string} */
function markdownOf({ messages }, title, texts) {
	const turns = messages.map(({ role, content }) => {
		const heading = role === "user" ? texts.you : texts.assistant;
		return `## ${heading}\n\n${content}\n`;
	});
	return [`# ${title}\n`, ...turns].join("\n");
}
