// @ts-check
/** One chat: its parts put together, its commands, and what keeps it up to date. */

import { request } from "./net/api.js";
import { createComposer } from "./ui/composer.js";
import { createConversation } from "./conversation.js";
import { copy, element, hooks, listen } from "./dom.js";
import { createOptions } from "./ui/options_dialog.js";
import { isVisible, onWake } from "./net/backoff.js";
import { openPush } from "./net/push_channel.js";
import { createSidebar } from "./ui/sidebar.js";
import { createStatus } from "./ui/status_line.js";
import { createThread } from "./ui/thread.js";

/** A conversation as a file. */
function download(conversation, format, texts) {
	const title = conversation.title || texts.newChat;
	const turns = conversation.messages.map(
		({ role, content }) => `## ${role === "user" ? texts.you : texts.assistant}\n\n${content}\n`,
	);
	const markdown = [`# ${title}\n`, ...turns].join("\n");
	const text = format === "md" ? markdown : JSON.stringify(conversation, null, 2);
	const href = URL.createObjectURL(new Blob([text]));
	const name = title.replace(/[^\p{L}\p{N}]+/gu, "-");
	element("a", { href, download: `${name}.${format}` }).click();
	setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/** @type {import("./types").StartChat} */
export function startChat(given) {
	const { host, isPage, texts, config, signal, choices } = given;
	const { urls } = config;
	const ui = hooks(given.root);
	const { root } = ui;
	const status = createStatus(ui, texts);
	const chat = { ...given, ui, status };
	const thread = createThread(ui);
	const composer = createComposer(chat, {
		onSend: text => conversation.send(text),
		onStop: () => conversation.stop(),
	});
	const sidebar = createSidebar(chat, go);
	const report = error => signal.aborted || status.warn(status.sentence(error));
	const options = createOptions(chat, settings => {
		if (id) conversation.change({ settings }).catch(report);
	});
	/** The conversation that is open. */
	let id = null;
	let conversation;

	const draftKey = () => `draft.${id ?? ""}`;
	function setTitle(title) {
		ui.title.textContent = title || config.title;
		if (isPage) document.title = title ? `${title} – ${config.title}` : config.title;
	}

	function onMade(made) {
		if (!made) return go(null);
		id = made;
		composer.rename(draftKey());
		sidebar.mark(id);
		if (isPage) history.pushState(null, "", urls.conversation_page + id);
		host.dispatchEvent(new CustomEvent("chat-conversation", { detail: id }));
	}

	function open(wanted) {
		conversation?.close();
		id = wanted;
		options.load({});
		setTitle();
		thread.clear(!id);
		composer.open(draftKey());
		sidebar.mark(id);
		sidebar.rest();
		conversation = createConversation(id, chat, {
			thread,
			composer,
			settings: options.chosen,
			onId: onMade,
			onLoad(loaded) {
				options.load(loaded.settings);
				setTitle(loaded.title);
			},
		});
		void conversation.load();
		if (isPage) ui.box.focus();
	}

	function go(wanted) {
		if (isPage) history.pushState(null, "", wanted ? urls.conversation_page + wanted : urls.page);
		open(wanted);
	}

	/** Follows a link, unless another tab is asked for. */
	function visit(event, wanted) {
		if (event.ctrlKey || event.metaKey || event.shiftKey) return;
		event.preventDefault();
		go(wanted);
	}

	/** The button that has opened a menu. */
	let opener = ui.show;
	const picked = () => opener.closest("li")?.dataset.id ?? id;
	const commands = {
		new: (_, event) => visit(event, null),
		open: (link, event) => visit(event, link.closest("li").dataset.id),
		pick: button => (opener = button),
		rename: () => sidebar.rename(picked()),
		remove: () => sidebar.remove(picked()),
		more: () => sidebar.showMore(),
		toggle: () => sidebar.toggle(),
		export({ dataset: { format } }) {
			request(`${urls.conversations}/${picked()}`, signal)
				.then(got => download(got, format, texts))
				.catch(report);
		},
		toEnd: () => thread.stay(),
		help: () => ui.help.showModal(),
		options: () => options.open(),
		fresh: () => go(null),
		search: () => sidebar.find(),
		focus: () => ui.box.focus(),
		escape: () => sidebar.rest() || conversation.stop(),
		copyNewest: () => copy(conversation.newestAnswer() ?? ""),
		editNewest: () => conversation.editNewest(),
	};
	listen(root, commands);
	for (const menu of [ui.rowMenu, ui.pageMenu]) {
		// In a shadow tree Chromium does not give the focus back.
		menu.onbeforetoggle = ({ newState }) => {
			if (newState === "closed" && menu.contains(root.getRootNode().activeElement)) opener.focus();
		};
	}

	function onKey(event) {
		const [target] = event.composedPath();
		const { ctrlKey, metaKey, shiftKey, key } = event;
		const held = [ctrlKey || metaKey ? "mod" : "", shiftKey ? "shift" : "", key.toLowerCase()];
		const command = config.shortcuts[held.filter(Boolean).join("+")];
		if (!command || event.isComposing || target.closest?.("dialog[open], :popover-open")) return;
		if (command === "editNewest" && (target !== ui.box || ui.box.value)) return;
		event.preventDefault();
		commands[command]();
	}
	(isPage ? document : root).addEventListener("keydown", onKey, { signal });

	let stale = false;
	/** Fetches what may have changed, as soon as somebody looks. */
	function refresh() {
		stale = !isVisible();
		if (stale) return;
		sidebar.soon();
		void conversation.load(true);
	}

	const openAddressed = () => {
		const { conversation_page: prefix } = urls;
		const { pathname } = location;
		open(pathname.startsWith(prefix) ? pathname.slice(prefix.length) : null);
	};
	if (isPage) {
		document.documentElement.lang = texts.language;
		addEventListener("popstate", openAddressed, { signal });
		openAddressed();
	} else open(host.getAttribute("conversation"));
	sidebar.soon(0);
	addEventListener("pagehide", status.settle, { signal });
	onWake(cause => (stale || cause === "online") && refresh(), signal);
	openPush(urls.push, `${urls.push} ${config.visitor}`, signal, event => {
		if (event.action === "deleted" && event.id === id) go(null);
		if (event.type !== "answer" || event.conversation_id === id) refresh();
	});
}
