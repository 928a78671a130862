import { render } from "preact";

import { exported } from "./api";
import { App } from "./app";
import { parseHash, route } from "./state";
import "./style.css";
import "./charts.css";
import { applyTheme } from "./theme";

applyTheme();
if (exported) route.set(parseHash(exported.hash));
const root = document.getElementById("studio");
if (root) render(<App />, root);
