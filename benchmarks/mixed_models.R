# Time lmer on one data set: Rscript mixed_models.R FILE FORMULA REPEATS FACTORS REML
# Prints the median seconds of one fit, data already in memory.
suppressPackageStartupMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
data <- read.csv(arguments[1])
for (name in strsplit(arguments[4], ",")[[1]]) data[[name]] <- factor(data[[name]])
formula <- as.formula(arguments[2])
repeats <- as.integer(arguments[3])
fit <- function() suppressMessages(lmer(formula, data, REML = arguments[5] == "TRUE"))
if (repeats > 1) invisible(fit())
seconds <- replicate(repeats, { start <- proc.time()[3]; fit(); proc.time()[3] - start })
cat(median(seconds), "\n")
