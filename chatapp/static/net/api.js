// @ts-check
/** The server's JSON routes. Every failure but an abort is an `ApiError`. */

/** @import { Persist, Request } from "../types" */

import { backoff } from "./backoff.js";

const TIMEOUT_MS = 60_000;

/** An error from the server or from the network. */
export class ApiError extends Error {
	/**
	 * @param {string} code of the server's list, or `network`: nobody knows whether it arrived
	 * @param {string} [message] the server's own sentence
	 * @param {number} [retryAfter] seconds
	 */
	constructor(code, message, retryAfter) {
		super(message);
		this.code = code;
		this.retryAfter = retryAfter;
	}
}

/** @type {(error: unknown) => boolean} */
export const isMissing = error => error instanceof ApiError && error.code === "not_found";

/**
 * A proxy's page, or a truncated reply: only a 4xx means that the server did nothing.
 * @param {number} status
 */
const fault = status => new ApiError(status >= 400 && status < 500 ? "unexpected" : "network");

/** The reply's JSON. @type {Request} */
export async function request(url, signal, method, json, headers) {
	try {
		const response = await fetch(url, {
			method,
			body: json && JSON.stringify(json),
			headers: { Accept: "application/json", "Content-Type": "application/json", ...headers },
			signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
			// A page that is being closed may still delete a conversation.
			keepalive: method === "DELETE",
		});
		if (response.status === 204) return null;
		const body = await response.json().catch(() => null);
		if (response.ok && body) return body;
		if (!body?.error) throw fault(response.status);
		const { code, message } = body.error;
		throw new ApiError(code, message, Number(response.headers.get("Retry-After")));
	} catch (error) {
		if (signal.aborted || error instanceof ApiError) throw error;
		throw new ApiError("network");
	}
}

/**
 * An HTML page, parsed and inert.
 * @type {(url: string, signal: AbortSignal) => Promise<Document>}
 */
export function requestPage(url, signal) {
	return new Promise((resolve, reject) => {
		const asked = new XMLHttpRequest();
		asked.open("GET", url);
		// `fetch` can't do this, and Trusted Types allow no other parser.
		asked.responseType = "document";
		asked.onloadend = () => {
			if (asked.status === 200 && asked.response) resolve(asked.response);
			else reject(fault(asked.status));
		};
		signal.addEventListener("abort", () => asked.abort());
		asked.send();
	});
}

/** Repeats with growing pauses while the network is what fails. @type {Persist} */
export async function persist(attempt, signal, onTrouble) {
	for (let failures = 0; ; failures++) {
		try {
			return await attempt();
		} catch (error) {
			if (!(error instanceof ApiError) || error.code !== "network") throw error;
			onTrouble?.();
			await backoff(failures, signal);
			signal.throwIfAborted();
		}
	}
}

/** A new idempotency key. `randomUUID` exists on https and localhost only. */
export const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");
