// @ts-check
/** The box to write in, and the one button beside it that sends or stops. */

const SAVE_MS = 300;
/** A longer text is not measured with each key: it fills the box anyway. */
const MEASURED_CHARS = 10_000;

/** @type {import("../types").CreateComposer} */
export function createComposer({ ui, texts, config, signal, status, keep, recall }, { onSend, onStop }) {
	const { box, submit, composer: form } = ui;
	const most = config.message_max_chars;
	/** @type {import("../types").Mode} */
	let mode = "idle";
	let draft = "";
	let saving = 0;

	/** @returns {boolean} whether there is something to send, and it can be sent */
	function refresh() {
		const stops = mode === "busy" || mode === "stopping";
		const { length } = box.value;
		// Not `disabled`: that would take the focus away from whoever has just pressed it.
		const dead = mode !== "busy" && (mode !== "idle" || length > most || !box.value.trim());
		submit.ariaDisabled = String(dead);
		submit.ariaLabel = submit.title = stops ? texts.stop : texts.send;
		form.dataset.stops = String(stops);
		box.style.height = "";
		box.style.height = length > MEASURED_CHARS ? "100vh" : `${box.scrollHeight}px`;
		if (length > most) status.warn(`${texts.tooLong} ${length} / ${most}`);
		return !dead && !stops;
	}

	function save() {
		clearTimeout(saving);
		keep(draft, box.value.trim() ? box.value : null);
	}

	function send() {
		if (!refresh()) return;
		const text = box.value;
		box.value = "";
		save();
		onSend(text);
		refresh();
	}

	form.onsubmit = event => {
		event.preventDefault();
		if (mode === "busy") onStop();
		else send();
	};
	box.onkeydown = event => {
		// Safari reports the Enter that ends a composition after `compositionend`, with this key code.
		const composing = event.isComposing || event.keyCode === 229;
		if (event.key !== "Enter" || event.shiftKey || composing) return;
		event.preventDefault();
		send();
	};
	box.oninput = () => {
		clearTimeout(saving);
		saving = setTimeout(save, SAVE_MS);
		if (mode === "idle") status.show("");
		refresh();
	};
	addEventListener("pagehide", save, { signal });
	signal.addEventListener("abort", save);
	new ResizeObserver(refresh).observe(form);

	return {
		isIdle: () => mode === "idle",
		setMode(next) {
			mode = next;
			refresh();
		},
		open(key) {
			if (draft) save();
			draft = key;
			box.value = recall(key) ?? "";
			refresh();
		},
		rename(key) {
			keep(draft, null);
			draft = key;
			save();
		},
		restore(text) {
			box.value = box.value.trim() ? `${text}\n\n${box.value}` : text;
			save();
			refresh();
		},
	};
}
