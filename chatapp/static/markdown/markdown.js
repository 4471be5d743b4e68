// @ts-check
/** Markdown, drawn as it arrives: DOM nodes only, in linear time, a little per frame. */

/** @import { CreateMarkdown } from "../types" */

import { createBlocks } from "./blocks.js";

/** A background page gets no frames; it draws after this many ms instead. */
const FRAMELESS_MS = 250;
/** Characters parsed per step; steps repeat while the frame has time. */
const SLICE_CHARS = 1024;
const SLICE_MS = 8;

/** @type {CreateMarkdown} */
export function createMarkdown(container, options = {}) {
	const { texts = {}, heading = 1, schedule = nextFrame } = options;
	let waiting = "";
	let isScheduled = false;
	/** @type {(() => void) | undefined} */
	let onEnd;
	let blocks = createBlocks(container, texts, heading);

	function run() {
		isScheduled = false;
		waiting = readSome(blocks, waiting, Boolean(onEnd));
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

/**
 * Parses while the frame has time.
 * @param {ReturnType<typeof createBlocks>} blocks
 * @param {string} waiting
 * @param {boolean} isEnd nothing more will come
 * @returns {string} what is left
 */
function readSome(blocks, waiting, isEnd) {
	const late = performance.now() + SLICE_MS;
	let rest = waiting;
	while (rest && performance.now() < late) {
		const end = sliceEnd(rest, isEnd);
		if (!end) break;
		blocks.write(normalized(rest.slice(0, end)));
		rest = rest.slice(end);
	}
	return rest;
}

/** How much is read in one go. @type {(waiting: string, isEnd: boolean) => number} */
function sliceEnd(waiting, isEnd) {
	const end = Math.min(SLICE_CHARS, waiting.length);
	if (waiting[end - 1] !== "\r") return end;
	// The second half of a CR LF may follow.
	if (end < waiting.length) return end + 1;
	return isEnd ? end : end - 1;
}

/** With LF as its only line ends, and no NUL (CommonMark §2.3). @param {string} text */
const normalized = text => text.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");

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
