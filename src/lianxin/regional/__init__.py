"""Regional medicine (区域医疗): what the shared centres do for every member."""
