// embed.js loads its icon font from beside itself: from this folder, wherever the book lies.
window.__jupyter_widgets_assets_path__ = new URL(".", document.currentScript.src).href;

// It sets formulas in labels by the interface of MathJax 2; the book has MathJax 3.
window.addEventListener("load", () => {
  if (window.MathJax && !MathJax.Hub) {
    MathJax.Hub = {
      Queue: ([, , element]) => MathJax.startup.promise.then(() => MathJax.typesetPromise([element])),
    };
  }
});
