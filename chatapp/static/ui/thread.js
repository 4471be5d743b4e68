// @ts-check
/** The messages of a conversation, one below the other, and scrolling along with them. */

/** @import { CreateThread, Refs } from "../types" */

import { element } from "../dom.js";

/** Within this many CSS pixels of the end, the reader counts as at the end. */
const NEAR_PX = 48;

/** @type {CreateThread} */
export function createThread(refs) {
	const { root, messages } = refs;
	const stay = createScrolling(refs);
	/** @param {HTMLElement} message */
	const add = message => {
		messages.append(message);
		root.dataset.empty = "false";
	};
	return {
		stay,
		add,
		addNote(text, action) {
			const made = element("p", { chat: "aside", role: "alert" }, text);
			if (action) made.append(action);
			add(made);
			stay();
			return made;
		},
		recount() {
			root.dataset.empty = String(!messages.childElementCount);
		},
		clear(greet) {
			messages.replaceChildren();
			root.dataset.empty = String(greet);
			stay();
		},
	};
}

/**
 * Scrolls along with the end until the reader scrolls up.
 * @param {Refs} refs
 * @returns goes to the end, and along with it
 */
function createScrolling({ scroller, messages, toEnd }) {
	let isStaying = true;
	let lastTop = 0;

	function follow() {
		if (isStaying) scroller.scrollTop = scroller.scrollHeight;
		toEnd.hidden = isStaying;
	}

	scroller.onscroll = () => {
		const { scrollTop, scrollHeight, clientHeight } = scroller;
		if (scrollHeight - scrollTop - clientHeight < NEAR_PX) isStaying = true;
		else if (scrollTop < lastTop) isStaying = false;
		lastTop = scrollTop;
		toEnd.hidden = isStaying;
	};
	const sizes = new ResizeObserver(follow);
	sizes.observe(messages);
	sizes.observe(scroller);
	return () => {
		isStaying = true;
		follow();
	};
}
