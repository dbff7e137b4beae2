// Sets up the page with the functions of the other scripts.
const theme = byId("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
setUpMatrix();
setUpPareto();
setUpStrategies();
setUpServing();
setUpTrends();
setUpCells();
