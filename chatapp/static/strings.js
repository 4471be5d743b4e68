// @ts-check
/** The page's own texts, in English and Simplified Chinese. */

const en = {
  language: "en",
  chat: "Conversation",
  newChat: "New chat",
  model: "Model",
  message: "Your message",
  placeholder: "Ask anything",
  send: "Send",
  stop: "Stop",
  greeting: "What would you like to know?",
  you: "You said",
  assistant: "Answer",
  thinking: "Thinking…",
  reasoning: "Reasoning",
  finished: "The answer is complete.",
  stopped: "Stopped.",
  length: "The answer reached its length limit.",
  contentFilter: "A content filter ended the answer.",
  gone: "The server no longer has this answer.",
  askAgain: "Ask again",
  tryAgain: "Try again",
  lost: "Connection lost, trying again…",
  loading: "Loading the conversation…",
  noConversation:
    "This conversation does not exist here, or no longer does. You can begin a new one.",
  newConversation:
    "The server no longer has this conversation. Here a new one begins; the model does not see what is above.",
  localModel: "Local demo model; set OPENAI_API_KEY for a real one.",
  unexpected: "The server's reply was not understood. Try again later.",
  /** Sentences that replace the server's English ones. @type {Record<string, string>} */
  errors: {},
};

/** @typedef {typeof en} Strings */

/** @type {Strings} */
const zh = {
  language: "zh-CN",
  chat: "对话",
  newChat: "新对话",
  model: "模型",
  message: "你的消息",
  placeholder: "想问什么都可以",
  send: "发送",
  stop: "停止",
  greeting: "今天想了解些什么？",
  you: "你说",
  assistant: "回答",
  thinking: "思考中…",
  reasoning: "思考过程",
  finished: "回答已完成。",
  stopped: "已停止。",
  length: "回答已达到长度上限。",
  contentFilter: "回答被内容过滤器终止。",
  gone: "服务器上已没有这个回答。",
  askAgain: "重新提问",
  tryAgain: "重试",
  lost: "连接已断开，正在重试…",
  loading: "正在载入对话…",
  noConversation: "这个对话不存在，或已被清除。可以开始新的对话。",
  newConversation: "服务器上已没有之前的对话，从这里开始新的对话，模型看不到上面的内容。",
  localModel: "当前为本地演示模型（仅会英文）；设置 OPENAI_API_KEY 即可使用正式模型。",
  unexpected: "无法理解服务器的回复，请稍后再试。",
  errors: {
    internal: "服务器出现内部错误，请重试。",
    invalid_request: "服务器不接受这条消息。",
    body_too_large: "消息太长，请缩短后再发送。",
    body_timeout: "消息上传超时，请重试。",
    too_many_answers: "服务器正忙，请稍后再试。",
    shutting_down: "服务器正在重启，请稍后再试。",
    not_found: "服务器上已没有这条内容。",
    interrupted: "服务器在回答完成前重启了，请重新提问。",
    upstream_unconfigured:
      "尚未配置模型：请设置 OPENAI_API_KEY 或 OPENAI_BASE_URL 后重启服务器，或安装本地演示模型。",
    upstream_unreachable: "无法连接模型服务，请稍后再试。",
    upstream_timeout: "模型服务没有及时响应，请重试。",
    upstream_auth: "模型服务拒绝了服务器的密钥，请联系管理员。",
    upstream_model_not_found: "模型服务没有这个模型。",
    upstream_busy: "模型服务繁忙，请稍后再试。",
    upstream_overloaded: "模型服务超载，请稍后再试。",
    upstream_rejected: "模型服务不接受这个请求，内容可能太长。",
    upstream_error: "模型服务出错，请重试。",
    upstream_cut: "模型服务在回答完成前断开了连接，请重试。",
    upstream_invalid: "模型服务返回了无法识别的内容。",
  },
};

/**
 * The texts in the first of the reader's languages that the page has, else in English.
 * @param {readonly string[]} languages BCP 47 tags, the preferred one first
 */
export function chooseStrings(languages) {
  for (const tag of languages) {
    const found = [en, zh].find(
      (each) => each.language.slice(0, 2) === tag.slice(0, 2).toLowerCase(),
    );
    if (found) return found;
  }
  return en;
}
