# Time brms on one data set: Rscript brms.R FILE FORMULA FACTORS
# Prints processor seconds in all and of sampling alone, and the smallest ESS of bulk and tails among
# coefficients, SDs, correlations and sigma. Default priors and chains, one process.
suppressPackageStartupMessages(library(brms))
# Where R's package of Boost has no headers of its own the system's serve (Debian).
if (system.file("include", package = "BH") == "") rstan::rstan_options(boost_lib = "/usr/include")
arguments <- commandArgs(trailingOnly = TRUE)
data <- read.csv(arguments[1])
for (name in strsplit(arguments[3], ",")[[1]]) data[[name]] <- factor(data[[name]])
used <- function() sum(proc.time()[c(1, 2, 4, 5)]) # with the compiler's
start <- used()
fit <- suppressWarnings(suppressMessages(
  brm(as.formula(arguments[2]), data, seed = 1, refresh = 0, silent = 2)))
total <- used() - start
sampling <- sum(rstan::get_elapsed_time(fit$fit))
draws <- posterior::subset_draws(posterior::as_draws_array(fit),
  variable = "^(b_|sd_|cor_|sigma)", regex = TRUE)
ess <- posterior::summarise_draws(draws, bulk = posterior::ess_bulk, tail = posterior::ess_tail)
cat("\n", total, sampling, min(ess$bulk), min(ess$tail), "\n")
