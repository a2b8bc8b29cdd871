// embed.js loads its icon font from beside itself: from this folder, wherever the book lies.
window.__jupyter_widgets_assets_path__ = new URL(".", document.currentScript.src).href;
