// Before the first paint: the theme that was chosen, or the system's.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return localStorage.getItem("fathom.theme") || "auto";
    } catch {
      return "auto";
    }
  };
  const apply = () => {
    const choice = chosen();
    root.dataset.theme = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
    root.dataset.themeChoice = choice;
  };
  dark.addEventListener("change", apply);
  window.fathomTheme = {
    next() {
      const choices = ["auto", "light", "dark"];
      const choice = choices[(choices.indexOf(root.dataset.themeChoice) + 1) % choices.length];
      try {
        localStorage.setItem("fathom.theme", choice);
      } catch {
        root.dataset.themeChoice = choice;
      }
      apply();
      return choice;
    },
  };
  apply();
})();
