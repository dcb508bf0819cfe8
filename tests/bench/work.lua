-- SPDX-License-Identifier: GPL-2.0-or-later
-- work.lua N: tables, closures and strings in Lua.
local n, x, seen, parts = tonumber(arg[1]), 1, {}, {}
local function step(k) return function(v) return (v * 1103515245 + k) % 2147483648 end end
local steps = {step(12345), step(54321), step(1)}
for i = 1, n do
    x = steps[i % 3 + 1](x)
    local key = x % 1009
    seen[key] = (seen[key] or 0) + 1
    if i % 50 == 0 then parts[#parts + 1] = string.format("%d", key) end
end
local most, text = 0, table.concat(parts, ",")
for _, v in pairs(seen) do most = math.max(most, v) end
print(most, #text, select(2, text:gsub("7", "")))
