// @ts-check
/** Markdown, drawn while it comes: DOM nodes only, in linear time, a little in each frame. */

import { createBlocks } from "./blocks.js";

/** A page in the background gets no frames; it draws so many ms later instead. */
const FRAMELESS_MS = 250;
/** So many characters are read at once, and again while a frame's share of time lasts. */
const SLICE_CHARS = 1024;
const SLICE_MS = 8;

/** @param {() => void} run */
function nextFrame(run) {
	const once = () => {
		cancelAnimationFrame(frame);
		clearTimeout(timer);
		run();
	};
	const frame = requestAnimationFrame(once);
	const timer = setTimeout(once, FRAMELESS_MS);
}

/** @type {import("../types").CreateMarkdown} */
export function createMarkdown(container, options = {}) {
	const { texts = {}, heading = 1, schedule = nextFrame } = options;
	let waiting = "";
	let isScheduled = false;
	/** @type {(() => void) | undefined} */
	let onEnd;
	let blocks = createBlocks(container, texts, heading);

	function read() {
		let end = Math.min(SLICE_CHARS, waiting.length);
		// The other half of a line end may be on its way.
		if (waiting[end - 1] === "\r") end += end < waiting.length ? 1 : onEnd ? 0 : -1;
		blocks.write(waiting.slice(0, end).replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd"));
		waiting = waiting.slice(end);
		return end;
	}

	function run() {
		isScheduled = false;
		const late = performance.now() + SLICE_MS;
		while (waiting && performance.now() < late) if (!read()) break;
		if (!waiting && onEnd) {
			blocks.close();
			onEnd();
		} else blocks.draw();
		if (waiting && (onEnd || waiting !== "\r")) wake();
	}

	function wake() {
		if (!isScheduled) schedule(run);
		isScheduled = true;
	}

	return {
		append(text) {
			waiting += text;
			wake();
		},
		end(then) {
			onEnd = then;
			run();
		},
		reset() {
			waiting = "";
			onEnd = undefined;
			container.replaceChildren();
			blocks = createBlocks(container, texts, heading);
		},
	};
}
