// @ts-check
/** The messages of a conversation, one below the other, and scrolling along with them. */

import { element } from "../dom.js";

/** Nearer to the end than this, in CSS pixels, the reader counts as being at the end. */
const NEAR_PX = 48;

/** @type {import("../types").CreateThread} */
export function createThread({ root, scroller, messages, toEnd }) {
	let staying = true;
	let lastTop = 0;

	function follow() {
		if (staying) scroller.scrollTop = scroller.scrollHeight;
		toEnd.hidden = staying;
	}

	function stay() {
		staying = true;
		follow();
	}

	const look = () => {
		const { scrollTop, scrollHeight, clientHeight } = scroller;
		if (scrollHeight - scrollTop - clientHeight < NEAR_PX) staying = true;
		else if (scrollTop < lastTop) staying = false;
		lastTop = scrollTop;
		toEnd.hidden = staying;
	};
	scroller.onscroll = look;
	const sizes = new ResizeObserver(follow);
	sizes.observe(messages);
	sizes.observe(scroller);

	return {
		stay,
		add(message) {
			messages.append(message);
			root.dataset.empty = "false";
		},
		addNote(text, action) {
			const made = element("p", { chat: "aside", role: "alert" }, text);
			if (action) made.append(action);
			this.add(made);
			stay();
			return made;
		},
		/** Says again whether there is anything. */
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
