/* Names for those who hear the page: what the theme calls otherwise than it reads, or leaves without a name. */
(() => {
  "use strict";
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const named = (selector, attributes) => each(selector, (found) =>
    Object.entries(attributes).forEach(([name, value]) => found.setAttribute(name, value)));

  function quiet() {  // the button of the icons has a name
    each(".theme-switch-button title", (title) => title.remove());
    each(".theme-switch", (icon) => icon.removeAttribute("title"));
    named(".theme-switch", { "aria-hidden": "true" });
  }

  function begin() {
    // These say in words what they do.
    each("summary[aria-label], .search-button-field", (found) => found.removeAttribute("aria-label"));
    quiet();  // now, and whenever the icons are replaced by their drawings
    each(".theme-switch-button", (button) => new MutationObserver(quiet).observe(button, { childList: true, subtree: true }));
    named("[role=doc-biblioentry]", { role: "listitem" });  // the list of references is a list
    named(".bd-docs-nav .has-children > details > summary", { "aria-label": "Show or hide the pages below" });
    named(".bd-sidebar-primary .sidebar-primary-items__start > .sidebar-primary-item:first-child",
      { role: "navigation", "aria-label": "Home" });
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
