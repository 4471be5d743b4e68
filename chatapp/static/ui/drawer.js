// @ts-check
/** Showing and hiding the sidebar, which lies above the thread where there is little room. */

/** @import { Chat } from "../types" */

/** Of the whole chat: narrower, and the list lies above the thread. As in the style sheet. */
const NARROW_PX = 720;

/** @param {Chat} chat */
export function createDrawer({ host, root, refs, choices }) {
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
