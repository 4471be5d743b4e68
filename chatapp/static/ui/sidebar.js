// @ts-check
/** The visitor's conversations: listed, searched, renamed, deleted. */

/** @import { Chat, CreateSidebar, Summary } from "../types" */

import { persist, request } from "../net/api.js";
import { createConversationList } from "./conversation_list.js";

/** Below this width of the chat, the list covers the thread. As in the style sheet. */
const NARROW_PX = 720;
const TYPING_MS = 250;
const BURST_MS = 200;
const PAGE = 50;
const MOST = 200;

/** @type {CreateSidebar} */
export function createSidebar(chat, onOpen) {
	const { refs, config, texts, signal, status } = chat;
	const drawer = createDrawer(chat);
	const list = createConversationList(chat);
	const pages = createPages(chat, list.show);
	/** @param {string} id */
	const urlOf = id => `${config.urls.conversations}/${id}`;
	/**
	 * Shows errors, and in any case the server's list.
	 * @param {Promise<unknown>} done
	 */
	const report = done =>
		done
			.catch(error => signal.aborted || status.warn(status.sentence(error)))
			.finally(() => pages.soon(0));

	return {
		soon: pages.soon,
		showMore: pages.showMore,
		mark: list.mark,
		toggle: drawer.toggle,
		rest: drawer.rest,
		find() {
			if (!drawer.isShown()) drawer.toggle();
			refs.search.focus();
		},
		rename(id) {
			list.edit(id, title => void report(request(urlOf(id), signal, "PATCH", { title })));
		},
		remove(id) {
			// Not our signal: this is sent even when the page is closed.
			const { signal: never } = new AbortController();
			const isCurrent = list.hide(id);
			if (isCurrent) onOpen(null);
			const remove = () => request(urlOf(id), never, "DELETE").finally(() => list.forget(id));
			status.offerUndo(texts.deleted, () => void report(remove()), () => list.unhide(id));
		},
	};
}

/**
 * Fetches the list: matching the search, and as long as the reader wants.
 * @param {Chat} chat
 * @param {(conversations: Summary[]) => void} onList
 */
function createPages({ refs: { search, more }, config, signal }, onList) {
	let count = PAGE;
	let timer = 0;
	let turns = 0;

	async function refresh() {
		const turn = ++turns;
		const query = new URLSearchParams({ limit: String(count) });
		if (search.value.trim()) query.set("q", search.value.trim());
		const url = `${config.urls.conversations}?${query}`;
		const got = await persist(() => request(url, signal), signal);
		if (turn !== turns) return; // A later request's reply came first.
		more.hidden = !got.next_cursor || count === MOST;
		onList(got.conversations);
	}

	function soon(ms = BURST_MS) {
		if (timer && ms === BURST_MS) return; // It is about to be fetched.
		clearTimeout(timer);
		timer = setTimeout(() => {
			timer = 0;
			refresh().catch(() => {});
		}, ms);
	}

	search.oninput = () => soon(TYPING_MS);
	return {
		soon,
		showMore() {
			count = Math.min(MOST, count + PAGE);
			soon(0);
		},
	};
}

/** Shows and hides the sidebar. @param {Chat} chat */
function createDrawer({ host, root, refs, choices }) {
	const isNarrow = () => root.clientWidth < NARROW_PX;
	/** @type {() => boolean} */
	const isShown = () => refs.sidebar.checkVisibility();

	/** @param {string} state `open`, `closed`, or empty: as there is room */
	function set(state) {
		root.dataset.sidebar = state;
		refs.scroller.inert = refs.foot.inert = isNarrow() && isShown();
	}

	function toggle() {
		const closes = isShown();
		set(closes ? "closed" : "open");
		if (!isNarrow()) choices.keep("sidebar", isShown() ? null : "closed");
		(closes ? refs.show : refs.hide).focus();
	}

	function rest() {
		const covers = isNarrow() && isShown();
		if (covers) set("");
		return covers;
	}

	root.addEventListener("click", ({ target }) => {
		if (target === root || target === refs.main) rest();
	});
	root.dataset.list = host.getAttribute("sidebar") ?? "on";
	set(isNarrow() ? "" : (choices.recall("sidebar") ?? ""));
	return { isShown, toggle, rest };
}
