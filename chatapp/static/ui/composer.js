// @ts-check
/** The box to write in, and the one button beside it that sends or stops. */

/** @import { Chat, CreateComposer, Mode } from "../types" */

const SAVE_MS = 300;
/** A longer text is not measured at each key; it fills the box anyway. */
const MEASURED_CHARS = 10_000;

/** @type {CreateComposer} */
export function createComposer(chat, { onSend, onStop }) {
	const { box, composer: form } = chat.refs;
	/** @type {Mode} */
	let mode = "idle";
	const draft = createDraft(chat);
	const isIdle = () => mode === "idle";
	const refresh = () => showState(chat, mode);

	function send() {
		if (!refresh()) return;
		onSend(draft.take());
		refresh();
	}

	box.oninput = () => {
		draft.saveSoon();
		if (isIdle()) chat.status.show("");
		refresh();
	};
	connectSending(chat, send, () => (mode === "busy" ? onStop() : send()));
	new ResizeObserver(refresh).observe(form);

	return {
		isIdle,
		setMode(next) {
			mode = next;
			refresh();
		},
		open(key) {
			draft.open(key);
			refresh();
		},
		rename: draft.rename,
		restore(text) {
			box.value = box.value.trim() ? `${text}\n\n${box.value}` : text;
			draft.save();
			refresh();
		},
	};
}

/**
 * Draws the box and the button.
 * @param {Chat} chat
 * @param {Mode} mode
 * @returns {boolean} whether there is something to send, and it can be sent
 */
function showState({ refs: { box, submit, composer: form }, texts, config, status }, mode) {
	const most = config.message_max_chars;
	const { length } = box.value;
	const stops = mode === "busy" || mode === "stopping";
	const dead = mode !== "busy" && (mode !== "idle" || length > most || !box.value.trim());
	// Not `disabled`: a button that was just pressed would lose the focus.
	submit.ariaDisabled = String(dead);
	submit.ariaLabel = submit.title = stops ? texts.stop : texts.send;
	form.dataset.stops = String(stops);
	box.style.height = "";
	box.style.height = length > MEASURED_CHARS ? "100vh" : `${box.scrollHeight}px`;
	if (length > most) status.warn(`${texts.tooLong} ${length} / ${most}`);
	return !dead && !stops;
}

/**
 * The key that sends, and the button that sends or stops.
 * @type {(chat: Chat, onEnter: () => void, onPress: () => void) => void}
 */
function connectSending({ refs: { box, composer: form } }, onEnter, onPress) {
	form.onsubmit = (/** @type {SubmitEvent} */ event) => {
		event.preventDefault();
		onPress();
	};
	box.onkeydown = (/** @type {KeyboardEvent} */ event) => {
		// Safari reports the Enter that ends a composition after its end, with this key code.
		const composing = event.isComposing || event.keyCode === 229;
		if (event.key !== "Enter" || event.shiftKey || composing) return;
		event.preventDefault();
		onEnter();
	};
}

/** The box's content, stored until the reader comes back. @param {Chat} chat */
function createDraft({ refs: { box }, signal, keep, recall }) {
	let key = "";
	let timer = 0;

	function save() {
		clearTimeout(timer);
		keep(key, box.value.trim() ? box.value : null);
	}

	addEventListener("pagehide", save, { signal });
	signal.addEventListener("abort", save);
	return {
		save,
		saveSoon() {
			clearTimeout(timer);
			timer = setTimeout(save, SAVE_MS);
		},
		/** Ends it. */
		take() {
			const text = box.value;
			box.value = "";
			save();
			return text;
		},
		/** Switches to another draft. @param {string} next */
		open(next) {
			if (key) save();
			key = next;
			box.value = recall(key) ?? "";
		},
		/** @param {string} next */
		rename(next) {
			keep(key, null);
			key = next;
			save();
		},
	};
}
