/** Requests, replies and streams. */

export type Fault = { code: string; message: string; retryable?: boolean };
export type Ending = { status: string; finish_reason?: string | null; error?: Fault | null };
export type Message = Ending & {
	id: string;
	role: string;
	content: string;
	reasoning: string | null;
	model: string | null;
	/** All versions of this message, oldest first. */
	siblings?: string[];
};
/** `null`: the server's default. */
export type Settings = Record<string, string | number | null>;
export type Summary = { id: string; title: string | null; updated_at: string };
export type Conversation = Summary & { settings?: Settings; messages: Message[] };
export type Snapshot = Ending & { text: string; reasoning: string | null; last_event: number };

/**
 * Every failure but an abort is an `ApiError`.
 * @param method absent: GET
 * @param json the body
 */
export type Request = (
	url: string,
	signal: AbortSignal,
	method?: string,
	json?: object,
	headers?: Record<string, string>,
) => Promise<any>;
/** @param onTrouble called after each attempt that failed */
export type Persist = <T>(
	attempt: () => Promise<T>,
	signal: AbortSignal,
	onTrouble?: () => void,
) => Promise<T>;

/** `gone`: the server no longer has the answer. */
export type Outcome = {
	status: "done" | "stopped" | "failed" | "gone";
	finishReason?: string | null;
	error?: Fault | null;
};
export type Tool = {
	id: string;
	name: string;
	arguments?: unknown;
	result?: unknown;
	error?: unknown;
};
export type Whole = { text: string; reasoning: string | null };
export type Follower = {
	/** The answer starts again from the beginning. */
	onStart(): void;
	/** The next piece of the answer. */
	onText(text: string): void;
	onReasoning(text: string): void;
	onTool(tool: Tool): void;
	/** Replaces everything received before. */
	onSnapshot(whole: Whole): void;
	onConnection(connected: boolean): void;
	/** Something on the way buffers the stream: the answer now comes in steps. */
	onBuffered(): void;
	/** Called once, last. */
	onEnd(outcome: Outcome): void;
};
export type FollowAnswer = (
	urls: { answer: string; events: string },
	follower: Follower,
	signal: AbortSignal,
) => Promise<void>;

/** How far an answer was followed. */
export type Following = {
	urls: { answer: string; events: string };
	follower: Follower;
	signal: AbortSignal;
	/** The last event received. */
	cursor: number;
	/** Attempts since the last event. */
	failures: number;
	/** Something on the way buffers the stream. */
	isBuffered: boolean;
};

/** `open`: the channel is open, perhaps again; events may have been missed. */
export type Push = {
	type: "open" | "conversation" | "answer";
	action?: string;
	id?: string;
	conversation_id?: string | null;
};
/** @param name of this visitor's channel between tabs */
export type OpenPushChannel = (
	url: string,
	name: string,
	signal: AbortSignal,
	onPush: (event: Push) => void,
) => void;

