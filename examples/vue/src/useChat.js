// @ts-check
/** One conversation: a POST asks, an `EventSource` brings the answer. */

import { onUnmounted, reactive, ref } from "vue";

const TRIES = 5;
const PAUSE = 1000;

/**
 * @param {string} mount where the chat is mounted, such as `/chat`
 */
export function useChat(mount) {
	/** @type {import("vue").Ref<{ role: string, text: string, note: string }[]>} */
	const messages = ref([]);
	const busy = ref(false);
	/** Where a POST stops the answer; empty while there is nothing to stop. */
	const stopUrl = ref("");
	/** @type {EventSource | undefined} */
	let source;
	let timer = 0;
	/** @type {string | undefined} */
	let conversation;

	/** @param {string} message */
	async function ask(message) {
		busy.value = true;
		messages.value.push({ role: "user", text: message, note: "" });
		const answer = reactive({ role: "assistant", text: "", note: "" });
		messages.value.push(answer);
		try {
			const reply = await post(`${mount}/api/chat`, { message, conversation_id: conversation });
			conversation = reply.answer.conversation_id;
			stopUrl.value = reply.stop;
			await follow(reply.events, answer);
		} catch (error) {
			answer.note = /** @type {Error} */ (error).message;
		} finally {
			busy.value = false;
			stopUrl.value = "";
		}
	}

	/**
	 * Let the answer grow until it is over. A lost connection costs no text: the browser connects
	 * again by itself, and says which event it had last.
	 *
	 * @param {string} url
	 * @param {{ text: string, note: string }} answer
	 */
	function follow(url, answer) {
		return new Promise((resolve, reject) => {
			let last = "";
			let tries = TRIES;

			function connect() {
				source = new EventSource(last ? `${url}?last_event_id=${last}` : url);
				/** @param {string} type @param {(data: any) => void} handle */
				const on = (type, handle) =>
					source?.addEventListener(type, (event) => {
						last = event.lastEventId;
						tries = TRIES;
						handle(JSON.parse(event.data));
					});
				on("message", ({ text }) => (answer.text += text));
				on("snapshot", ({ text }) => (answer.text = text));
				on("done", end);
				on("failed", ({ message }) => {
					answer.note = message;
					end();
				});
				source.onerror = () => {
					// After an HTTP error it gives up, where a server may only be starting anew.
					if (source?.readyState !== EventSource.CLOSED) return;
					if (tries--) timer = setTimeout(connect, PAUSE);
					else reject(new Error("The connection is lost."));
				};
			}

			function end() {
				source?.close();
				resolve(undefined);
			}

			connect();
		});
	}

	function stop() {
		return post(stopUrl.value);
	}

	onUnmounted(() => {
		clearTimeout(timer);
		source?.close();
	});
	return { messages, busy, stopUrl, ask, stop };
}

/**
 * @param {string} url
 * @param {object} [body]
 */
async function post(url, body) {
	const headers = { "Content-Type": "application/json" };
	const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
	const reply = await response.json();
	if (!response.ok) throw new Error(reply.error.message);
	return reply;
}
