/** What the parts of the page say to each other. Read by editors and type checkers, never loaded. */

export type Fault = { code: string; message: string; retryable?: boolean };
export type Ending = { status: string; finish_reason?: string | null; error?: Fault | null };
export type Message = Ending & {
	id: string;
	role: string;
	content: string;
	reasoning: string | null;
	model: string | null;
	/** The versions of this message, itself among them, the oldest first. */
	siblings?: string[];
};
/** `null`: the server's default. */
export type Settings = Record<string, string | number | null>;
export type Summary = { id: string; title: string | null; updated_at: string };
export type Conversation = Summary & { settings?: Settings; messages: Message[] };
export type Snapshot = Ending & { text: string; reasoning: string | null; last_event: number };

/** Where the server has things; `answers` and `conversation_page` want an id behind them. */
export type Urls = Record<
	"page" | "conversation_page" | "chat" | "answers" | "conversations" | "models" | "push",
	string
>;
/** `visitor` tells the visitors of one browser apart, and names none of them. */
export type Config = {
	title: string;
	urls: Urls;
	visitor: string;
	/** Keys, such as `mod+shift+o`, by what they do. */
	shortcuts: Record<string, string>;
	message_max_chars: number;
};
/** The `script` part of a `texts.*.json`. */
export type Texts = Record<string, any>;
/** Elements by their `data-chat`. */
export type Hooks = Record<string, any>;

// Talking to the server

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

/** `gone`: the server does not know the answer any more. */
export type Outcome = {
	status: "done" | "stopped" | "failed" | "gone";
	finishReason?: string | null;
	error?: Fault | null;
};
export type OutcomeOf = (answer: Ending) => Outcome;
export type Tool = {
	id: string;
	name: string;
	arguments?: unknown;
	result?: unknown;
	error?: unknown;
};
export type Whole = { text: string; reasoning: string | null; status?: string };
export type Follower = {
	/** The answer is told again from its start. */
	onStart(): void;
	/** The next piece of the answer. */
	onText(text: string): void;
	onReasoning(text: string): void;
	onTool(tool: Tool): void;
	/** Replaces everything received before. */
	onSnapshot(whole: Whole): void;
	onConnection(connected: boolean): void;
	/** Something on the way holds the stream back: from now on the answer comes in steps. */
	onBuffered(): void;
	/** Called once, last. */
	onEnd(outcome: Outcome): void;
};
export type FollowAnswer = (
	urls: { answer: string; events: string },
	follower: Follower,
	signal: AbortSignal,
) => Promise<void>;

/** `open`: the channel is open, perhaps again; something may have been missed. */
export type Push = {
	type: "open" | "conversation" | "answer";
	action?: string;
	id?: string;
	conversation_id?: string | null;
};
/** @param name of this visitor's channel between tabs */
export type OpenPush = (
	url: string,
	name: string,
	signal: AbortSignal,
	onPush: (event: Push) => void,
) => void;

// Messages

export type View = {
	role: string;
	/** Null until the server has told it. */
	id: string | null;
	root: HTMLElement;
	content(): string;
	/** Takes over what the server knows. */
	update(message: Message): void;
};
/** @param text to begin with; absent: the question's own */
export type QuestionView = View & { edit(text?: string): void };
export type AnswerView = View & {
	rewind(): void;
	append(text: string): void;
	reason(text: string): void;
	/** A call, or what came of it. */
	tool(tool: Tool): void;
	replace(text: string, reasoning: string | null): void;
	/**
	 * @param note one line on how it ended
	 * @param action what the reader may do about it
	 */
	finish(status: Outcome["status"], note?: string, action?: HTMLElement | false): Promise<void>;
};
/** What the reader may do with a message. */
export type Actions = {
	edit(view: View, text: string): void;
	regenerate(view: View): void;
	choose(id: string): void;
};
export type CreateQuestion = (chat: Chat, actions: Actions, text: string) => QuestionView;
export type CreateAnswer = (chat: Chat, actions: Actions) => AnswerView;

// The parts of the page

export type Memory = {
	recall(key: string): string | null;
	/** @param value null forgets it */
	keep(key: string, value: string | null): void;
};
/** What starts a chat. `choices` are kept for all visitors of the browser, the rest for this one. */
export type Beginning = Memory & {
	host: HTMLElement & { restart(): void };
	root: HTMLElement;
	isPage: boolean;
	texts: Texts;
	config: Config;
	/** Ends with this chat. */
	signal: AbortSignal;
	choices: Memory;
};
export type StartChat = (beginning: Beginning) => void;
/** What all parts of a chat share. */
export type Chat = Beginning & { ui: Hooks; status: Status };

export type Status = {
	/** @param text stays until the next; an empty one says nothing */
	show(text: string, tone?: "calm" | "warning"): void;
	warn(text: string): void;
	/** For screen readers alone. */
	announce(text: string): void;
	/** Says what is about to be done, and does it unless the reader takes it back in time. */
	offerUndo(text: string, act: () => void, undo: () => void): void;
	/** Does at once what could still be taken back. */
	settle(): void;
	/** An `ApiError` or a `Fault` in the reader's language; anything else is thrown on. */
	sentence(error: any): string;
};
export type CreateStatus = (ui: Hooks, texts: Texts) => Status;

export type Thread = {
	add(message: HTMLElement): void;
	addNote(text: string, action?: HTMLElement): HTMLElement;
	/** Says again whether there is anything. */
	recount(): void;
	/** @param greet whether the visitor is at a beginning */
	clear(greet: boolean): void;
	/** Goes to the end, and along with it. */
	stay(): void;
};
export type CreateThread = (ui: Hooks) => Thread;

export type Mode = "idle" | "loading" | "busy" | "stopping";
export type Composer = {
	isIdle(): boolean;
	setMode(mode: Mode): void;
	/** Changes to the draft that is kept under this key. */
	open(key: string): void;
	/** The draft's conversation was made. */
	rename(key: string): void;
	/** Puts back what was sent, before anything written since. */
	restore(text: string): void;
};
export type CreateComposer = (
	chat: Chat,
	handlers: { onSend(text: string): void; onStop(): void },
) => Composer;

export type Options = {
	/** What differs from the server's defaults. */
	chosen(): Settings;
	/** Takes over a conversation's settings; undefined: it has none of its own. */
	load(settings?: Settings): void;
	open(): void;
};
export type CreateOptions = (chat: Chat, onChange: (changed: Settings) => void) => Options;

export type Sidebar = {
	/** Fetches the list anew, after so many ms. */
	soon(ms?: number): void;
	showMore(): void;
	/** @param id the conversation that is open */
	mark(id: string | null): void;
	rename(id: string): void;
	remove(id: string): void;
	toggle(): void;
	/** Gives a narrow page back to the thread; whether there was anything to do. */
	rest(): boolean;
	find(): void;
};
export type CreateSidebar = (chat: Chat, onOpen: (id: string | null) => void) => Sidebar;

export type CreateConversation = (
	id: string | null,
	chat: Chat,
	surroundings: {
		thread: Thread;
		composer: Composer;
		settings: () => Settings;
		/** A conversation was made; null: a new one is wanted. */
		onId(id: string | null): void;
		onLoad(conversation: Conversation): void;
	},
) => {
	/** @param quietly what is shown is good enough until then */
	load(quietly?: boolean): Promise<void>;
	send(text: string): Promise<void>;
	change(fields: object): Promise<unknown>;
	stop(): void;
	newestAnswer(): string | undefined;
	editNewest(): void;
	/** Leaves the page to another conversation; a running answer goes on. */
	close(): void;
};

// Markdown

/** A block of text: `rest` is drawn anew each time, behind the `final` node. */
export type Inline = { home: HTMLElement; final: ChildNode | null; rest: string };
/** `isDraft`: what is added is taken back, node by node; those before stay as they are. */
type Growing = { home: HTMLElement; size: number; isDraft?: boolean };
/** `held`: its last line. */
export type TextLeaf = Inline &
	Growing & { type: "text"; tag: keyof HTMLElementTagNameMap; held: string };
/** `home`: its last piece. `indent`: the white space before its fence. */
export type CodeLeaf = Growing & { type: "code"; fence: string; indent: number; isMath?: boolean };
/** How each column is aligned. */
export type Columns = ("left" | "center" | "right")[];
export type TableLeaf = { type: "table"; home: HTMLElement; head: HTMLElement; columns: Columns };
export type Leaf = TextLeaf | CodeLeaf | TableLeaf;
/**
 * @param holder gets the block
 * @param within the type of the container
 */
export type OpenText = (
	holder: HTMLElement,
	within: "root" | "quote" | "item",
	tag: keyof HTMLElementTagNameMap,
	text: string,
) => TextLeaf;
export type OpenCode = (
	holder: HTMLElement,
	texts: Texts,
	fence: string,
	indent: number,
	language: string,
	isMath?: boolean,
) => CodeLeaf;
export type Add = (leaf: TextLeaf | CodeLeaf, text: string) => void;
/** @param open more follows */
export type DrawLeaf = (leaf: Leaf | null, open: boolean) => void;
/** @param parent closes the leaf, and makes room for a block */
export type Underline = (
	leaf: TextLeaf,
	line: string,
	parent: () => HTMLElement,
) => TableLeaf | null;
/** @param parent as above */
export type AddRow = (leaf: TableLeaf, text: string, parent: () => HTMLElement) => TableLeaf;
/** @param heading the level of `#`, 1 to 6 */
export type CreateBlocks = (
	root: HTMLElement,
	texts: Texts,
	heading: number,
) => {
	/** @param text with LF as its only line ends */
	write(text: string): void;
	/** Shows what has come so far. */
	draw(): void;
	/** Nothing follows. */
	close(): void;
};
export type CreateMarkdown = (
	/** Empty; it belongs to the Markdown. */
	container: HTMLElement,
	options?: {
		texts?: Texts;
		heading?: number;
		/** Calls back soon, when there is time to draw. */
		schedule?: (run: () => void) => void;
	},
) => {
	/** The next piece of the text. */
	append(text: string): void;
	/** Draws the rest, in frames, and calls back. Nothing follows but `reset`. */
	end(onEnd: () => void): void;
	/** Begins anew, with nothing. */
	reset(): void;
};
