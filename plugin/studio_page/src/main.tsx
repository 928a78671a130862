import { render } from "preact";

import { App } from "./app";
import "./style.css";
import "./charts.css";
import { applyTheme } from "./theme";

applyTheme();
const root = document.getElementById("studio");
if (root) render(<App />, root);
