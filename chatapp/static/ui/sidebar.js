// @ts-check
/** The visitor's conversations: by day, searched, renamed, deleted. */

import { persist, request } from "../net/api.js";
import { clone, element, hooks } from "../dom.js";

/** Of the whole chat: narrower, and the list lies above the thread. As in the style sheet. */
const NARROW_PX = 720;
const TYPING_MS = 250;
const BURST_MS = 200;
const DAY_MS = 86_400_000;
const PAGE = 50;
const MOST = 200;

/** "Today", "Monday", "March 2026". */
function dayOf(time, language) {
	const date = new Date(time);
	const midnight = day => new Date(day).setHours(0, 0, 0, 0);
	const days = Math.round((midnight(Date.now()) - midnight(date)) / DAY_MS);
	const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
	if (days < 2) return relative.format(-days, "day");
	/** @type {Intl.DateTimeFormatOptions} */
	const options = days < 7 ? { weekday: "long" } : { month: "long", year: "numeric" };
	return new Intl.DateTimeFormat(language, options).format(date);
}

/** @type {import("../types").CreateSidebar} */
export function createSidebar(chat, onOpen) {
	const { host, root, ui, config, texts, signal, status, choices } = chat;
	const { list, search, more } = ui;
	const { urls } = config;
	const urlOf = id => `${urls.conversations}/${id}`;
	let shown = [];
	/** Deleted, but it can be taken back. */
	const hidden = new Set();
	let current = "";
	let drawn = "";
	let count = PAGE;
	let timer = 0;
	let turns = 0;

	function row({ id, title }) {
		const made = clone(ui.rowTemplate);
		const { link, rowMore } = hooks(made);
		made.dataset.id = id;
		link.href = urls.conversation_page + id;
		link.textContent = title || texts.newChat;
		if (id === current) link.ariaCurrent = "page";
		rowMore.ariaLabel = `${rowMore.title}: ${link.textContent}`;
		return made;
	}

	function draw() {
		if (list.querySelector("input")) return; // Somebody writes in there.
		const visible = shown.filter(each => !hidden.has(each.id));
		const dated = visible.map(each => ({ ...each, day: dayOf(each.updated_at, texts.language) }));
		const next = JSON.stringify([current, search.value, dated.map(({ id, title, day }) => [id, title, day])]);
		if (next === drawn) return;
		drawn = next;
		const groups = new Map();
		for (const each of dated) {
			if (!groups.has(each.day)) groups.set(each.day, element("ul", { "aria-label": each.day }));
			groups.get(each.day).append(row(each));
		}
		const focused = list.getRootNode().activeElement;
		const id = list.contains(focused) && focused.closest("li").dataset.id;
		const none = search.value ? texts.nothing : texts.noneYet;
		list.replaceChildren(
			...[...groups].flatMap(([day, group]) => [element("h2", {}, day), group]),
			...(groups.size ? [] : [element("p", {}, none)]),
		);
		if (id) list.querySelector(`[data-id="${id}"] ${focused.localName}`)?.focus();
	}

	async function refresh() {
		const turn = ++turns;
		const query = new URLSearchParams({ limit: String(count) });
		if (search.value.trim()) query.set("q", search.value.trim());
		const got = await persist(() => request(`${urls.conversations}?${query}`, signal), signal);
		if (turn !== turns) return;
		shown = got.conversations;
		more.hidden = !got.next_cursor || count === MOST;
		draw();
	}

	function soon(ms = BURST_MS) {
		if (timer && ms === BURST_MS) return; // Soon enough.
		clearTimeout(timer);
		timer = setTimeout(() => {
			timer = 0;
			refresh().catch(() => {});
		}, ms);
	}

	/** Tells when it goes wrong, and shows in any case what the server has. */
	const report = (/** @type {Promise<unknown>} */ done) =>
		done
			.catch(error => signal.aborted || status.warn(status.sentence(error)))
			.finally(() => soon(0));

	const isNarrow = () => root.clientWidth < NARROW_PX;
	const isShown = () => ui.sidebar.checkVisibility();

	/** `open`, `closed`, or as there is room. */
	function set(/** @type {string | undefined} */ state) {
		root.dataset.sidebar = state;
		ui.scroller.inert = ui.foot.inert = isNarrow() && isShown();
	}

	function toggle() {
		const closes = isShown();
		set(closes ? "closed" : "open");
		if (!isNarrow()) choices.keep("sidebar", isShown() ? null : "closed");
		(closes ? ui.show : ui.hide).focus();
	}

	/** Gives a narrow page back to the thread. @returns {boolean} whether there was anything to do */
	function rest() {
		const covers = isNarrow() && isShown();
		if (covers) set("");
		return covers;
	}

	root.addEventListener("click", ({ target }) => (target === root || target === ui.main) && rest());
	search.oninput = () => soon(TYPING_MS);
	root.dataset.list = host.getAttribute("sidebar") ?? "on";
	set(isNarrow() ? "" : (choices.recall("sidebar") ?? ""));
	return {
		soon,
		toggle,
		rest,
		find() {
			if (!isShown()) toggle();
			search.focus();
		},
		showMore() {
			count = Math.min(MOST, count + PAGE);
			soon(0);
		},
		mark(id) {
			current = id ?? "";
			draw();
		},
		rename(id) {
			const { link } = hooks(list.querySelector(`[data-id="${id}"]`));
			const before = link.textContent;
			const input = element("input", { "aria-label": texts.rename, maxlength: "80", value: before });
			const close = keep => {
				const title = input.value.trim();
				input.onblur = null;
				input.replaceWith(link);
				link.focus();
				if (!keep || !title || title === before) return;
				link.textContent = title;
				void report(request(urlOf(id), signal, "PATCH", { title }));
			};
			input.onblur = () => close(true);
			input.onkeydown = event => {
				if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
				event.stopPropagation();
				close(event.key === "Enter");
			};
			link.replaceWith(input);
			input.select();
		},
		remove(id) {
			// Not our signal: it is sent also when the page goes away.
			const { signal: never } = new AbortController();
			hidden.add(id);
			draw();
			if (id === current) onOpen(null);
			status.offerUndo(
				texts.deleted,
				() => void report(request(urlOf(id), never, "DELETE").finally(() => hidden.delete(id))),
				() => {
					hidden.delete(id);
					draw();
				},
			);
		},
	};
}
