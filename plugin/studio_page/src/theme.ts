/** Light, dark or what the system says. Kept in localStorage, where the browser allows it. */
import { createStore } from "./store";

export type Theme = "system" | "light" | "dark";

const KEY = "diptych-studio-theme";

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system"; // storage that is switched off
  }
}

export const theme = createStore<Theme>(stored());

export function applyTheme(): void {
  const value = theme.get();
  if (value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}

export function setTheme(value: Theme): void {
  theme.set(value);
  applyTheme();
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // The choice holds until the page is closed.
  }
}
