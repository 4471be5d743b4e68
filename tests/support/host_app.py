"""A host application whose pages embed the chat, under a policy as strict as they come."""

from flask import Flask, Response

from chatapp import ChatApp

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A shop</title>
<link rel="icon" href="/chat/assets/icon.svg">
<link rel="stylesheet" href="/shop.css">
<script type="module" src="/chat/assets/chat_box.js"></script>
<h1>A shop</h1>
<main>
  <chat-box id="one" src="/chat" sidebar="off" theme="dark">Please sign in.</chat-box>
  <chat-box id="two" src="/chat" lang="zh"></chat-box>
</main>
"""
STYLE = """
body { margin: 1rem; font-family: serif; }
main { display: grid; grid-template-columns: 22rem 1fr; gap: 1rem; height: 40rem; }
button { background: red; font-size: 3rem; }
#one { --chat-accent: rgb(1, 128, 3); --chat-font: Georgia, serif; border: 1px solid; }
"""


def create_host() -> Flask:
    app = Flask(__name__)
    ChatApp(app, url_prefix="/chat")

    @app.get("/shop")
    def shop() -> Response:
        return Response(PAGE, headers={"Content-Security-Policy": POLICY})

    @app.get("/shop.css")
    def style() -> Response:
        return Response(STYLE, mimetype="text/css")

    return app
