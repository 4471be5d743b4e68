"""The options that say which model answers, and where it is."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from .settings_fields import is_this_machine, option


@dataclass(frozen=True, kw_only=True)
class UpstreamSettings:
    """The part of `Settings` about the upstream."""

    api_key: str | None = option(
        None, "The upstream's key. Stays on the server.", env="OPENAI_API_KEY", mend="key"
    )
    base_url: str | None = option(
        None,
        "The upstream's address up to and with `/v1`; unset: OpenAI's.",
        env="OPENAI_BASE_URL",
        mend="address",
    )
    azure_endpoint: str | None = option(
        None,
        "An Azure OpenAI resource, `https://….openai.azure.com`; needs `OPENAI_API_VERSION` and a "
        "key. `CHATAPP_MODEL` is a deployment's name then.",
        env="AZURE_OPENAI_ENDPOINT",
        mend="azure_address",
    )
    azure_api_version: str | None = option(
        None, "Of Azure's API, such as `2024-10-21`.", env="OPENAI_API_VERSION", mend="word"
    )
    azure_api_key: str | None = option(
        None,
        "The key of an Azure resource; unset: `OPENAI_API_KEY`.",
        env="AZURE_OPENAI_API_KEY",
        mend="key",
    )
    azure_ad_token: str | None = option(
        None,
        "A token of Microsoft Entra's, in place of an Azure key.",
        env="AZURE_OPENAI_AD_TOKEN",
        mend="key",
    )
    model: str | None = option(
        None,
        "The model that is asked; unset: the first of `CHATAPP_MODELS`, `gpt-5-mini` at OpenAI, "
        "else the first that the upstream lists.",
        mend="word",
    )
    models: tuple[str, ...] = option(
        (), "Models that visitors may choose from, comma-separated; `model` is always included."
    )
    system_prompt: str | None = option(None, "A system prompt, sent before every conversation.")
    local_model: bool = option(
        True, "Without a key and an address, answer with the small model of the `local` extra."
    )
    transport: str = option(
        "fast",
        "The HTTP layer below the SDK: `fast` is ours, `stock` the HTTP library's own.",
        choices=("fast", "stock"),
    )
    think_tags: str = option(
        "auto",
        "Reasoning that a model writes into its text: `auto` takes `<think>…</think>`, or tags "
        "like these, at an answer's beginning for it; `opened` does so from the first word, for a "
        "model whose template has written `<think>` itself; `off` leaves it text.",
        choices=("auto", "opened", "off"),
    )
    upstream_connect_timeout: float = option(
        5.0, "Seconds to connect to the upstream.", minimum=0.001
    )
    upstream_timeout: float = option(
        300.0,
        "Seconds that the upstream may be silent; a reasoning model can think for minutes.",
        minimum=0.001,
    )
    upstream_wordless: float = option(
        1200.0,
        "Seconds for which the upstream may send signs of life, such as comments, and nothing of "
        "an answer; then `upstream_timeout`.",
        minimum=0.001,
    )

    @property
    def upstream_named(self) -> bool:
        """Whether the settings name an upstream."""
        return bool(self.api_key or self.base_url or self.azure_endpoint)

    @property
    def may_cost(self) -> bool:
        """Whether questions may cost money: with a key, anywhere but on this machine."""
        keys = (self.api_key, self.azure_api_key, self.azure_ad_token)
        host = urlsplit(self.azure_endpoint or self.base_url or "").hostname
        return any(keys) and not is_this_machine(host)

    @property
    def wants_local_model(self) -> bool:
        """Whether the embedded model answers, because no upstream is named."""
        return self.local_model and not self.upstream_named
