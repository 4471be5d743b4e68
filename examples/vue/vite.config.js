import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

export default defineConfig({
	plugins: [vue()],
	// While one develops, the page comes from Vite and the answers from Flask.
	server: { proxy: { "/chat": "http://127.0.0.1:8000" } },
});
