// @ts-check
/** One chat: its parts put together, and what keeps it up to date. */

/** @import { Chat, OpenChat, StartChat } from "./types" */

import { connectCommands } from "./commands.js";
import { createConversation } from "./conversation.js";
import { refsIn } from "./dom.js";
import { isVisible, onWake } from "./net/backoff.js";
import { openPushChannel } from "./net/push_channel.js";
import { createComposer } from "./ui/composer.js";
import { loadMarkdown } from "./ui/message_text.js";
import { createOptionsDialog } from "./ui/options_dialog.js";
import { createSidebar } from "./ui/sidebar.js";
import { createStatusLine } from "./ui/status_line.js";
import { createThread } from "./ui/thread.js";

/** @type {StartChat} */
export function startChat(given) {
	const refs = refsIn(given.root);
	const status = createStatusLine(refs, given.texts);
	/** @type {Chat} */
	const chat = { ...given, refs, status };
	const { host, isPage, signal } = chat;
	const open = createOpenChat(chat);
	connectCommands(open);
	// Somebody who types gets an answer soon.
	refs.box.addEventListener("input", warmUp, { once: true, signal });
	const openAddressed = () => show(open, addressed(chat));
	if (isPage) {
		document.documentElement.lang = chat.texts.language;
		addEventListener("popstate", openAddressed, { signal });
		openAddressed();
	} else show(open, host.getAttribute("conversation"));
	open.sidebar.soon(0);
	addEventListener("pagehide", status.settle, { signal });
	keepUpToDate(open);
}

/** @type {(chat: Chat) => OpenChat} */
function createOpenChat(chat) {
	const { refs, signal, status } = chat;
	/** @type {OpenChat} */
	const open = {
		chat,
		id: null,
		// Null until `show`, never after.
		conversation: /** @type {any} */ (null),
		thread: createThread(refs),
		composer: createComposer(chat, {
			onSend: text => open.conversation.send(text),
			onStop: () => open.conversation.stop(),
		}),
		sidebar: createSidebar(chat, id => open.go(id)),
		options: createOptionsDialog(chat, settings => {
			if (open.id) open.conversation.change({ settings }).catch(open.report);
		}),
		go(id) {
			const { conversation_page: prefix, page } = chat.config.urls;
			if (chat.isPage) history.pushState(null, "", id ? prefix + id : page);
			show(open, id);
		},
		report: error => signal.aborted || status.warn(status.sentence(error)),
	};
	return open;
}

/** Opens a conversation, or a new one. @type {(open: OpenChat, id: string | null) => void} */
function show(open, id) {
	const { chat, thread, composer, sidebar, options } = open;
	open.conversation?.close();
	open.id = id;
	options.load({});
	setTitle(chat);
	thread.clear(!id);
	composer.open(draftKey(id));
	sidebar.mark(id);
	sidebar.rest();
	open.conversation = createConversation(id, chat, {
		thread,
		composer,
		settings: options.chosen,
		onId: made => (made ? onMade(open, made) : open.go(null)),
		onLoad(loaded) {
			options.load(loaded.settings);
			setTitle(chat, loaded.title);
		},
	});
	if (id) warmUp();
	void open.conversation.load();
	if (chat.isPage) chat.refs.box.focus();
}

/** The first question has made the conversation. @type {(open: OpenChat, id: string) => void} */
function onMade(open, id) {
	const { chat, composer, sidebar } = open;
	open.id = id;
	composer.rename(draftKey(id));
	sidebar.mark(id);
	if (chat.isPage) history.pushState(null, "", chat.config.urls.conversation_page + id);
	chat.host.dispatchEvent(new CustomEvent("chat-conversation", { detail: id }));
}

/** @param {string | null} id */
const draftKey = id => `draft.${id ?? ""}`;

/** Fetches what the first answer needs. It does so by itself if this fails. */
const warmUp = () => void loadMarkdown().catch(() => {});

/** @type {(chat: Chat, title?: string | null) => void} */
function setTitle({ refs, config, isPage }, title) {
	refs.title.textContent = title || config.title;
	if (isPage) document.title = title ? `${title} – ${config.title}` : config.title;
}

/** The conversation that the page's address names. @param {Chat} chat */
function addressed({ config }) {
	const { conversation_page: prefix } = config.urls;
	const { pathname } = location;
	return pathname.startsWith(prefix) ? pathname.slice(prefix.length) : null;
}

/** Fetches what may have changed, as soon as somebody looks. @param {OpenChat} open */
function keepUpToDate(open) {
	const { config, signal } = open.chat;
	const { push } = config.urls;
	let isStale = false;

	function refresh() {
		isStale = !isVisible();
		if (isStale) return;
		open.sidebar.soon();
		void open.conversation.load(true);
	}

	onWake(cause => (isStale || cause === "online") && refresh(), signal);
	openPushChannel(push, `${push} ${config.visitor}`, signal, event => {
		if (event.action === "deleted" && event.id === open.id) open.go(null);
		if (event.type !== "answer" || event.conversation_id === open.id) refresh();
	});
}
